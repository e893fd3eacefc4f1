//! windlass: a durable queue server. See ARCHITECTURE.md for the layers and the walk of a message.

