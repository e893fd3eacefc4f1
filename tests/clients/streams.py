"""Drives windlass with the published PyPI client `sequin-py`, which knows no token: one goes into the address.

Prints one line per thing checked; fails at the first that does not hold. Prints `restart` when it wants
the server killed and started again, and then reads the new address from standard input.
"""

import json
import os
import sys
import time

from sequin.client import Client

PATIENCE = 20.0
TOKEN = os.environ.get("SERVER_TOKEN")


def connect(url):
    return Client(url.replace("http://", f"http://anyone:{TOKEN}@") if TOKEN else url)


url = os.environ["SERVER_URL"]
sequin = connect(url)


def checked(what):
    print(f"checked: {what}", flush=True)


def restart():
    global url, sequin
    print("restart", flush=True)
    url = sys.stdin.readline().strip()
    assert url, "the new address comes on standard input"
    sequin = connect(url)


def same(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def fine(answer):
    result, error = answer
    assert error is None, f"refused: {error!r}"
    return result


def refused(status, answer):
    result, error = answer
    assert result is None and error is not None, f"answered {result!r} where {status} was due"
    same(error["status"], status)
    assert error["summary"] and error["summary"] != "Unknown error", error
    return error["summary"]


def receive_all(count, consumer="orders", **options):
    """Receives until `count` messages came, within bounds."""
    end, messages = time.monotonic() + PATIENCE, []
    while len(messages) < count:
        assert time.monotonic() < end, f"{len(messages)} of {count} messages came in {PATIENCE} s"
        more = fine(sequin.receive_messages("shop", consumer, options or None))
        messages += more
        if not more:
            time.sleep(0.02)
    same(len(messages), count)
    return messages


def ids(messages):
    return [message["ack_id"] for message in messages]


# The README's test, word for word but for its own names.
stream = fine(sequin.create_stream("test-stream-1"))
same(stream["name"], "test-stream-1")
same(sorted(stream["stats"]), ["consumer_count", "message_count", "storage_size"])
consumer = fine(sequin.create_consumer("test-stream-1", "test-consumer-1", "test.>"))
same((consumer["name"], consumer["kind"], consumer["max_waiting"]), ("test-consumer-1", "pull", 20))
same(fine(sequin.send_message("test-stream-1", "test.1", "Hello, Sequin!"))["published"], 1)
message = fine(sequin.receive_message("test-stream-1", "test-consumer-1"))
same((message["message"]["key"], message["message"]["data"]), ("test.1", "Hello, Sequin!"))
same((message["message"]["seq"], message["message"]["stream_id"]), (1, stream["id"]))
same(fine(sequin.ack_message("test-stream-1", "test-consumer-1", message["ack_id"])), {"success": True})
same(fine(sequin.receive_message("test-stream-1", "test-consumer-1")), None)
same(fine(sequin.delete_consumer("test-stream-1", "test-consumer-1")), {"id": consumer["id"], "deleted": True})
same(fine(sequin.delete_stream("test-stream-1")), {"id": stream["id"], "deleted": True})
checked("the client's own test")

options = {"one_message_per_key": True, "process_unmodified": False, "max_storage_gb": 10}
stream = fine(sequin.create_stream("shop", options))
settings = {"ack_wait_ms": 60000, "max_ack_pending": 5000, "max_deliver": 3}
consumer = fine(sequin.create_consumer("shop", "orders", "order.*.eu", settings))
same({name: consumer[name] for name in settings}, settings)
fine(sequin.create_consumer(stream["id"], "everything", ">"))
same(refused(422, sequin.create_stream("shop")), "Validation failed")
same(refused(422, sequin.create_consumer("shop", "orders", ">")), "Validation failed")
refused(422, sequin.create_consumer("shop", "bad", "a..b"))
refused(422, sequin.create_consumer("shop", "push", ">", {"kind": "push"}))
checked("streams and consumers, and what is wrong with them")

sent = [{"key": f"order.{n}.{'eu' if n % 2 else 'us'}", "data": json.dumps({"n": n})} for n in range(10)]
same(fine(sequin.send_messages("shop", sent)), {"published": 10})
refused(400, sequin.send_message("shop", "order.1.eu", {"not": "text"}))
refused(422, sequin.send_message("shop", "order..eu", "x"))
refused(404, sequin.send_message("nowhere", "a", "x"))
messages = receive_all(5)
same([json.loads(message["message"]["data"])["n"] for message in messages], [1, 3, 5, 7, 9])
same(fine(sequin.receive_messages("shop", "orders")), [])
same(fine(sequin.nack_messages("shop", "orders", ids(messages[:2]))), {"success": True})
again = receive_all(2)
same([one["message"]["key"] for one in again], ["order.1.eu", "order.3.eu"])
checked("batches, the pattern, nack")

# Leases, acks and messages outlive a SIGKILL.
same(fine(sequin.ack_messages("shop", "orders", ids(messages[2:4]))), {"success": True})
restart()
same(fine(sequin.receive_messages("shop", "orders")), [])
same(fine(sequin.ack_messages("shop", "orders", ids(again + messages[4:]))), {"success": True})
restart()
same(fine(sequin.receive_messages("shop", "orders")), [])
checked("ids given before a crash ack after it")

# One message per key: what nobody has in flight is replaced by the newer one.
for version in range(3):
    fine(sequin.send_message("shop", "order.0.us", f"version {version}"))
everything = receive_all(10, "everything", batch_size=100)
by_key = {one["message"]["key"]: one["message"]["data"] for one in everything}
same((len(by_key), by_key["order.0.us"]), (10, "version 2"))
fine(sequin.send_message("shop", "order.0.us", "version 3"))
same(fine(sequin.receive_messages("shop", "everything")), [])
held = [one for one in everything if one["message"]["key"] == "order.0.us"]
fine(sequin.ack_message("shop", "everything", held[0]["ack_id"]))
same(receive_all(1, "everything")[0]["message"]["data"], "version 3")
checked("one message per key, in order")

same(fine(sequin.ack_messages("shop", "orders", ids(messages))), {"success": True})
refused(400, sequin.ack_messages("shop", "orders", []))
refused(400, sequin.ack_message("shop", "orders", "no id"))
refused(404, sequin.receive_message("shop", "nobody"))
refused(400, sequin.receive_messages("shop", "orders", {"batch_size": 0}))
refused(404, sequin.delete_consumer("shop", "nobody"))
refused(404, sequin.delete_stream("nowhere"))
if TOKEN:
    refused(401, Client(url).create_stream("other"))
    refused(401, Client(url.replace("http://", "http://anyone:wrong@")).create_stream("other"))
    publish_only = Client(url.replace("http://", f"http://anyone:{os.environ['PUBLISH_TOKEN']}@"))
    same(fine(publish_only.send_message("shop", "a", "b")), {"published": 1})
    refused(403, publish_only.receive_message("shop", "orders"))
checked("every error as the client reads it")
print("done", flush=True)
