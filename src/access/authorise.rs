//! Who asks, and whether they may. [`authorise`] is the only place that decides it.

use crate::model::{AccessId, AccountName, Permission, Permissions, TopicName, TopicPattern};

/// No credential has this id: theirs begin with a prefix of their kind.
const OPEN: &str = "open";

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account whose topics the request sees.
    pub account: AccountName,
    /// What the credential allows.
    pub permissions: Permissions,
    /// Which topics it reaches.
    pub topics: TopicPattern,
    /// Public name of the credential.
    pub id: AccessId,
}

impl Principal {
    /// Whoever reaches a server that has no credential at all: everything in the standard account.
    pub fn open() -> Self {
        Self {
            account: AccountName::standard(),
            permissions: Permissions::ALL,
            topics: TopicPattern::all(),
            id: AccessId(OPEN.to_owned()),
        }
    }

    /// Whether this is whoever reaches a server without credentials.
    pub fn is_open(&self) -> bool {
        self.id.0 == OPEN
    }

    /// Whether the credential reaches every topic of its account.
    pub fn reaches_all(&self) -> bool {
        self.topics.as_str() == "*"
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read settings and counts: whoever may do anything may see what it is done to.
    See,
    /// Do what needs this permission.
    Do(Permission),
}

/// What a request wants to do it to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// This topic.
    Topic(&'a TopicName),
    /// The whole account (its credentials, say): needs a credential that reaches every topic.
    Account,
    /// Topics that are not known yet: the caller asks again for each, or leaves out those it may not see.
    Unnamed,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The credential lacks the permission.
    #[error("the credential does not allow this")]
    Permission,
    /// The credential does not reach the topic.
    #[error("the credential does not reach this topic")]
    Topic,
}

/// Decides whether `principal` may do what `right` says to `target`.
pub fn authorise(principal: &Principal, right: Right, target: Target<'_>) -> Result<(), Denied> {
    let allowed = match right {
        Right::See => principal.permissions != Permissions::default(),
        Right::Do(permission) => principal.permissions.allows(permission),
    };
    if !allowed {
        return Err(Denied::Permission);
    }
    let reached = match target {
        Target::Topic(topic) => principal.topics.covers(topic),
        Target::Account => principal.reaches_all(),
        Target::Unnamed => true,
    };
    if reached { Ok(()) } else { Err(Denied::Topic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(permissions: Permissions, topics: &str) -> Principal {
        Principal { permissions, topics: TopicPattern::parse(topics).expect("a pattern"), ..Principal::open() }
    }

    #[test]
    fn each_permission_opens_only_itself_and_only_its_topics() {
        let all = [Permission::Publish, Permission::Consume, Permission::Admin];
        let inside = TopicName::parse("orders.eu").expect("a name");
        let outside = TopicName::parse("order").expect("a name");
        for held in all {
            let permissions = Permissions {
                publish: held == Permission::Publish,
                consume: held == Permission::Consume,
                admin: held == Permission::Admin,
            };
            let who = principal(permissions, "orders*");
            for asked in all {
                let right = Right::Do(asked);
                let expected = if asked == held { Ok(()) } else { Err(Denied::Permission) };
                assert_eq!(authorise(&who, right, Target::Topic(&inside)), expected, "{held:?} asks {asked:?}");
                assert!(authorise(&who, right, Target::Topic(&outside)).is_err());
                assert!(authorise(&who, right, Target::Account).is_err());
            }
            assert_eq!(authorise(&who, Right::See, Target::Topic(&inside)), Ok(()));
            assert_eq!(authorise(&who, Right::See, Target::Topic(&outside)), Err(Denied::Topic));
        }
        let nobody = principal(Permissions::default(), "*");
        assert_eq!(authorise(&nobody, Right::See, Target::Unnamed), Err(Denied::Permission));
    }
}
