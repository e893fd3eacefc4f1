"""Drives windlass with the published PyPI client.

Prints one line per thing checked; fails at the first that does not hold. Prints `restart` when it wants
the server killed and started again, and then reads the new address from standard input.
"""

import base64
import json
import os
import re
import sys
import time

import cloudflare
from cloudflare import Cloudflare

ACCOUNT = os.environ["ACCOUNT"]
PATIENCE = 20.0


def connect_all(url, token=os.environ["SERVER_TOKEN"]):
    return Cloudflare(base_url=f"{url}/client/v4", api_token=token, max_retries=0)


def connect(url, **named):
    return connect_all(url, **named).queues


url = os.environ["SERVER_URL"]
queues = connect(url)


def checked(what):
    print(f"checked: {what}", flush=True)


def restart():
    global url, queues
    print("restart", flush=True)
    url = sys.stdin.readline().strip()
    assert url, "the new address comes on standard input"
    queues = connect(url)


def same(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def refused(status, code, kind, ask, *args, **named):
    try:
        answer = ask(*args, account_id=named.pop("account_id", ACCOUNT), **named)
    except cloudflare.APIStatusError as error:
        assert isinstance(error, kind), f"{type(error)} is no {kind}: {error}"
        same((error.status_code, error.body["errors"][0]["code"]), (status, code))
        return
    raise AssertionError(f"answered {answer!r} where {status} was due")


def pull(queue_id, **options):
    options = {"batch_size": 10, "visibility_timeout_ms": 60_000, **options}
    return queues.messages.pull(queue_id, account_id=ACCOUNT, **options).messages


def pull_all(queue_id, count, **options):
    """Pulls until `count` messages came, within bounds."""
    end, messages = time.monotonic() + PATIENCE, []
    while len(messages) < count:
        assert time.monotonic() < end, f"{len(messages)} of {count} messages came in {PATIENCE} s"
        more = pull(queue_id, **options)
        messages += more
        if not more:
            time.sleep(0.02)
    same(len(messages), count)
    return messages


def leases(messages):
    return [{"lease_id": message.lease_id} for message in messages]


def decoded(message):
    if message.metadata["CF-Content-Type"] == "json":
        return json.loads(base64.b64decode(message.body))
    return message.body


# Queues and consumers.
queue = queues.create(account_id=ACCOUNT, queue_name="orders")
queue_id = queue.queue_id
assert re.fullmatch("[0-9a-f]{32}", queue_id)
checked("create a queue")
refused(409, 11009, cloudflare.ConflictError, queues.create, queue_name="orders")
refused(400, 11003, cloudflare.BadRequestError, queues.create, queue_name="no!")
checked("a name taken is 409, a bad one 400")
refused(405, 0, cloudflare.APIStatusError, queues.messages.pull, queue_id)
checked("pull without a consumer is 405, 0")
settings = {"batch_size": 10, "max_retries": 1, "retry_delay": 0, "visibility_timeout_ms": 400}
wanted = {"type": "http_pull", "dead_letter_queue": "orders-dead", "settings": settings}
consumer = queues.consumers.create(queue_id, account_id=ACCOUNT, **wanted)
same((consumer.type, consumer.dead_letter_queue), ("http_pull", "orders-dead"))
same(consumer.settings.to_dict(), settings)
same(consumer.created_on.tzinfo is not None, True)
refused(400, 11004, cloudflare.BadRequestError, queues.consumers.create, queue_id, **wanted)
checked("create a pull consumer, and no second one")
listed = {one.queue_name: one for one in queues.list(account_id=ACCOUNT)}
same(sorted(listed), ["orders", "orders-dead"])
same(listed["orders"].consumers[0].consumer_id, consumer.consumer_id)
checked("list queues, the dead-letter queue made by its name among them")
edited = queues.edit(queue_id, account_id=ACCOUNT, settings={"message_retention_period": 3600.0})
same(edited.settings.message_retention_period, 3600)
same(queues.get(queue_id, account_id=ACCOUNT).settings.message_retention_period, 3600)
updated = queues.update(queue_id, account_id=ACCOUNT, queue_name="orders-2", settings={"delivery_delay": 0.0})
same((updated.queue_name, updated.settings.message_retention_period), ("orders-2", 345600))
checked("get, edit and update a queue")
consumers = [one.consumer_id for one in queues.consumers.list(queue_id, account_id=ACCOUNT)]
same(consumers, [consumer.consumer_id])
same(queues.consumers.get(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue_id).type, "http_pull")
checked("get and list consumers")

# Messages, over a crash.
document = {"n": 1.5, "text": "ü", "list": [None, True]}
push = lambda **message: queues.messages.push(queue_id, account_id=ACCOUNT, **message)
push(body="héllo ☃", content_type="text")
push(body=document, content_type="json")
batch = [{"body": "b1", "content_type": "text"}, {"body": {"b": 2}, "content_type": "json"}]
queues.messages.bulk_push(queue_id, account_id=ACCOUNT, messages=batch)
checked("push text, JSON and a batch")
restart()
first = pull(queue_id)
same([decoded(message) for message in first], ["héllo ☃", document, "b1", {"b": 2}])
assert all(message.attempts == 1 and re.fullmatch("[0-9a-f]{32}", message.id) for message in first)
checked("all of it is there after kill -9, in order")
same(pull(queue_id), [])
restart()
same(pull(queue_id), [])
checked("what is leased is nobody else's, after kill -9 as well")
retried_at = time.monotonic()
retries = [{"lease_id": first[2].lease_id, "delay_seconds": 1.0}, {"lease_id": first[3].lease_id}]
outcome = queues.messages.ack(queue_id, account_id=ACCOUNT, acks=leases(first[:2]), retries=retries)
same((outcome.ack_count, outcome.retry_count, outcome.warnings), (2, 2, {}))
checked("ack some, retry some, with leases from before the crash")
now, later = pull_all(queue_id, 1)[0], pull_all(queue_id, 1)[0]
same((decoded(now), now.attempts, now.id), ({"b": 2}, 2, first[3].id))
same((decoded(later), later.attempts), ("b1", 2))
assert time.monotonic() - retried_at >= 0.998, "delayed by a second, it came early"
checked("a retry comes again with one more attempt, a delayed one not early")
queues.messages.ack(queue_id, account_id=ACCOUNT, acks=leases([now, later]))
restart()
same(pull(queue_id), [])
same(queues.get_metrics(queue_id, account_id=ACCOUNT).backlog_count, 0)
checked("what was acked stays away after kill -9, and the metrics say so")
strange = queues.messages.ack(queue_id, account_id=ACCOUNT, acks=[{"lease_id": "nonsense"}])
same((strange.ack_count, len(strange.warnings)), (0, 1))
checked("an unknown lease is a warning")

# Lapses, attempts, dead letters.
push(body="hot", content_type="text", delay_seconds=0.0)
leased = pull_all(queue_id, 1, visibility_timeout_ms=300)[0]
again = pull_all(queue_id, 1, visibility_timeout_ms=300.0)[0]
same((again.id, leased.attempts, again.attempts), (leased.id, 1, 2))
checked("a lease that lapses makes the message come again")
dead = listed["orders-dead"].queue_id
queues.consumers.create(dead, account_id=ACCOUNT, type="http_pull")
letter = pull_all(dead, 1)[0]
same((letter.id, letter.body, letter.attempts), (leased.id, "hot", 1))
same(pull(queue_id), [])
checked("after max_retries, by a lapse that nobody saw, it is in the dead-letter queue and nowhere else")
restart()
queues.messages.ack(dead, account_id=ACCOUNT, acks=leases([letter]))
same(queues.get_metrics(dead, account_id=ACCOUNT).backlog_count, 0)
checked("a dead letter is acked with its lease from before a crash")

# What is refused.
none = "f" * 32
messages = queues.messages
refused(404, 11000, cloudflare.NotFoundError, queues.get, none)
refused(404, 10104, cloudflare.NotFoundError, messages.pull, none)
refused(404, 10104, cloudflare.NotFoundError, messages.push, none, body="x", content_type="text")
checked("an unknown queue is 404")
for delay in [86_401, -1]:
    text = {"body": "x", "content_type": "text"}
    refused(400, 10203, cloudflare.BadRequestError, messages.push, queue_id, **text, delay_seconds=delay)
    refused(400, 10202, cloudflare.BadRequestError, messages.bulk_push, queue_id, messages=[text], delay_seconds=delay)
checked("a delay out of bounds is 400")
large = {"content_type": "text"}
refused(400, 10204, cloudflare.BadRequestError, messages.push, queue_id, body="x" * 128_001, **large)
refused(413, 10205, cloudflare.APIStatusError, messages.push, queue_id, body="x" * (3 << 20), **large)
checked("a body too large is 400 or, when it is not even read, 413")
refused(400, 10207, cloudflare.BadRequestError, messages.pull, queue_id, batch_size=101)
checked("a pull out of bounds is 400")
same(pull(queue_id), [])
if os.environ["SERVER_MODE"] == "token":
    refused(401, 10000, cloudflare.AuthenticationError, connect(url, token="wrong").get, queue_id)
    producer = connect(url, token=os.environ["PUBLISH_TOKEN"])
    producer.messages.push(queue_id, account_id=ACCOUNT, body="x", content_type="text")
    refused(403, 10000, cloudflare.PermissionDeniedError, producer.delete, queue_id)
    refused(403, 10000, cloudflare.PermissionDeniedError, producer.messages.pull, queue_id)
    refused(403, 10000, cloudflare.PermissionDeniedError, queues.get, queue_id, account_id="e" * 32)
    checked("a bad token is 401; one without the right, and the account of somebody else, are 403")

# Looking, and giving up.
if os.environ["SERVER_MODE"] == "token":
    messages.ack(queue_id, account_id=ACCOUNT, acks=leases(pull_all(queue_id, 1)))
for body in ["one", "two"]:
    push(body=body, content_type="text")
push(body="three", content_type="text", delay_seconds=600.0)
seen = messages.peek(queue_id, account_id=ACCOUNT, batch_size=10.0).messages
same([(message.body, message.attempts) for message in seen], [("one", 0), ("two", 0), ("three", 0)])
refs = [{"ref": seen[0].ref}, {"ref": seen[2].ref}, {"ref": "strange"}]
given = messages.purge(queue_id, account_id=ACCOUNT, refs=refs)
same((given.errors, list(given.warnings)), ([], ["strange"]))
same([message.id for message in messages.peek(queue_id, account_id=ACCOUNT).messages], [seen[1].id])
checked("peek, and purge by what a peek told")
status = queues.purge.status(queue_id, account_id=ACCOUNT)
same((status.completed, status.started_at), ("", ""))
same(queues.purge.start(queue_id, account_id=ACCOUNT, delete_messages_permanently=True).queue_id, queue_id)
same((pull(queue_id), queues.get_metrics(queue_id, account_id=ACCOUNT).backlog_count), ([], 0))
status = queues.purge.status(queue_id, account_id=ACCOUNT)
assert re.match(r"\d{4}-\d\d-\d\dT", status.completed) and status.started_at <= status.completed, status
checked("purge all of it, and when that was")
same(list(queues.subscriptions.list(account_id=ACCOUNT)), [])
refused(501, 7001, cloudflare.InternalServerError, queues.subscriptions.create, name="s")
checked("no event subscriptions: the list ends, making one is 501")
client = connect_all(url)
name = ACCOUNT if os.environ["SERVER_MODE"] == "token" else "default"
same([account.name for account in client.accounts.list()], [name])
same(client.user.tokens.verify().status, "active")
checked("find the account, verify the token")

# The end of it.
queues.consumers.update(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue_id, type="http_pull")
same(queues.consumers.get(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue_id).settings.max_retries, 3)
queues.consumers.delete(consumer.consumer_id, account_id=ACCOUNT, queue_id=queue_id)
queues.delete(queue_id, account_id=ACCOUNT)
restart()
refused(404, 11000, cloudflare.NotFoundError, queues.get, queue_id)
refused(404, 11000, cloudflare.NotFoundError, queues.delete, queue_id)
checked("update and delete a consumer, delete a queue: gone, after kill -9 as well")
print("done", flush=True)
