"""Drives windlass with the published management client of JD Cloud, and with requests signed as the manual of
its message queue prescribes.

Prints one line per thing checked; fails at the first that does not hold. Prints `restart` when it wants the
server killed and started again, and then reads the new address from standard input.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import sys
import time

import requests
from jdcloud_sdk.core.config import Config
from jdcloud_sdk.core.const import SCHEME_HTTP
from jdcloud_sdk.core.credential import Credential
from jdcloud_sdk.core.logger import Logger, ERROR
from jdcloud_sdk.services.jcq.apis import (
    AddPermissionRequest as add_permission,
    CleanMessagesRequest as clean_messages,
    CreateSubscriptionRequest as create_subscription,
    CreateTopicRequest as create_topic,
    DeleteDeadLettersRequest as delete_dead_letters,
    DeleteSubscriptionRequest as delete_subscription,
    DeleteTopicRequest as delete_topic,
    DescribeAccessPointRequest as describe_access_point,
    DescribeConsumerGroupIdsRequest as describe_group_ids,
    DescribeDeadLetterNumbersRequest as describe_numbers,
    DescribeDeadLetterNumbersWithTopicRequest as describe_topic_numbers,
    DescribeMessageRequest as describe_message,
    DescribeMessagesByBusinessIdRequest as describe_by_business_id,
    DescribeMessagesRequest as describe_messages,
    DescribeMessageTraceRequest as describe_trace,
    DescribePermissionRequest as describe_permission,
    DescribeSubscriptionRequest as describe_subscription,
    DescribeSubscriptionsRequest as describe_subscriptions,
    DescribeTopicRequest as describe_topic,
    DescribeTopicsRequest as describe_topics,
    ListDeadLettersRequest as list_dead_letters,
    ModifySubscriptionAttributeRequest as modify_subscription,
    RemovePermissionRequest as remove_permission,
    ResendDeadLettersRequest as resend_dead_letters,
    ResetConsumeOffsetRequest as reset_offset,
)
from jdcloud_sdk.services.jcq.client.JcqClient import JcqClient

REGION = "cn-north-1"
ACCESS_KEY = os.environ["ACCESS_KEY"]
SECRET_KEY = os.environ["SECRET_KEY"]
OTHER_KEY = os.environ["OTHER_KEY"]
OTHER_SECRET = os.environ["OTHER_SECRET"]
LOCKED = os.environ["SERVER_MODE"] == "keys"

url = os.environ["SERVER_URL"]
asked = set()


def checked(what):
    print(f"checked: {what}", flush=True)


def restart():
    global url
    print("restart", flush=True)
    url = sys.stdin.readline().strip()
    assert url, "the new address comes on standard input"


def same(got, expected):
    assert got == expected, f"{got!r} is not {expected!r}"


def send_to(module, access_key, secret_key, **options):
    """Builds the request of `module` with its required options in order, sets the others, sends it."""
    kind = module.__name__.rsplit(".", 1)[1]
    asked.add(kind)
    parameters_kind = getattr(module, kind.replace("Request", "Parameters"))
    code = parameters_kind.__init__.__code__
    required = code.co_varnames[1 : code.co_argcount]
    options = {"regionId": REGION, **options}
    parameters = parameters_kind(*[options.pop(name) for name in required])
    for name, value in options.items():
        getattr(parameters, f"set{name[0].upper()}{name[1:]}")(value)
    client = JcqClient(
        Credential(access_key, secret_key), Config(url.removeprefix("http://"), SCHEME_HTTP), Logger(ERROR)
    )
    answer = client.send(getattr(module, kind)(parameters))
    assert answer.request_id, "every answer has an id"
    return answer


def ask(module, **options):
    answer = send_to(module, ACCESS_KEY, SECRET_KEY, **options)
    assert answer.error is None, f"{answer.error.code} {answer.error.status} {answer.error.message}"
    return answer.result


def refused(code, status, module, keys=(ACCESS_KEY, SECRET_KEY), **options):
    error = send_to(module, *keys, **options).error
    assert error is not None, "answered where a refusal was due"
    same((error.code, error.status), (code, status))


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def joined(fields):
    return "&".join(f"{name}={fields[name]}" for name in sorted(fields))


def headers(fields, keys):
    """The three headers that sign the parameters of a query, or the fields of a body."""
    key, secret = keys
    signed = {**fields, "accessKey": key, "dateTime": now()}
    if "messages" in signed:
        digests = []
        for message in signed["messages"]:
            plain = {name: value for name, value in message.items() if name != "properties"}
            text = joined({**plain, **message.get("properties", {})})
            digests.append(hashlib.md5(text.encode()).hexdigest())
        signed["messages"] = ",".join(digests)
    mac = hmac.new(secret.encode(), joined(signed).encode(), hashlib.sha1)
    signature = base64.b64encode(mac.digest()).decode()
    return {"accessKey": key, "dateTime": signed["dateTime"], "signature": signature}


def answered(response, status=200):
    envelope = response.json()
    same((response.status_code, bool(envelope["requestId"])), (status, True))
    return envelope["result"] if status == 200 else envelope["error"]["status"]


def post(path, status=200, keys=(ACCESS_KEY, SECRET_KEY), **fields):
    return answered(requests.post(f"{url}{path}", json=fields, headers=headers(fields, keys), timeout=20), status)


def get(path, status=200, keys=(ACCESS_KEY, SECRET_KEY), **fields):
    return answered(requests.get(f"{url}{path}", params=fields, headers=headers(fields, keys), timeout=20), status)


def publish(topic, *messages, kind="NORMAL", version="v2", **more):
    return post(f"/{version}/messages", topic=topic, type=kind, messages=list(messages), **more)["messageIds"]


def pull(topic, group, version="v2", **more):
    return get(f"/{version}/messages", topic=topic, consumerGroupId=group, **more)


def bodies(pulled):
    return [message["messageBody"] for message in pulled["messages"]]


def ack(topic, group, pulled, action="SUCCESS", version="v2", status=200):
    fields = {"topic": topic, "consumerGroupId": group, "ackAction": action, "ackIndex": pulled["ackIndex"]}
    return post(f"/{version}/ack", status, **fields)


T = {"topicName": "orders"}
G = {"topicName": "orders", "consumerGroupId": "group-01"}
BEGIN = "2020-01-01T00:00:00Z"
# What the client makes of a result without fields.
EMPTY = None
END = "2099-01-01T00:00:00Z"

# Topics.
same(ask(create_topic, topicName="orders", type="normal", description="all orders"), EMPTY)
ask(create_topic, topicName="a+b~c_d-E", type="global_order")
refused(409, "ALREADY_EXISTS", create_topic, topicName="orders", type="normal")
refused(400, "INVALID_ARGUMENT", create_topic, topicName="no", type="normal")
refused(400, "INVALID_ARGUMENT", create_topic, topicName="orders.x", type="normal")
refused(400, "INVALID_ARGUMENT", create_topic, topicName="other", type="partitioned")
refused(400, "INVALID_ARGUMENT", create_topic, topicName="other", type="normal", description="x" * 256)
topic = ask(describe_topic, **T)["topic"]
same(
    sorted(topic),
    sorted(
        ["topicId", "topicName", "description", "createTime", "lastUpdateTime", "topicStatus", "subscriptionCount"]
        + ["messageLifeTimeInHours", "topicConfig", "own", "authorizedPermission", "tags"]
    ),
)
same((topic["topicName"], topic["description"], topic["own"]), ("orders", "all orders", True))
same((topic["messageLifeTimeInHours"], topic["authorizedPermission"]), (72, "ADMIN"))
same(
    topic["topicConfig"],
    {"maxMessageSizeKB": 256, "threshold": 0, "topicPermission": "PUBSUB", "topicType": "normal"},
)
same(ask(describe_topic, topicName="a+b~c_d-E")["topic"]["topicConfig"]["topicType"], "global_order")
refused(404, "NOT_FOUND", describe_topic, topicName="nothing")
for number in range(10):
    ask(create_topic, topicName=f"page-{number}", type="normal")
listed = ask(describe_topics)
same((listed["totalCount"], len(listed["topics"])), (12, 10))
same(len(ask(describe_topics, pageSize=10, pageNumber=2)["topics"]), 2)
listed = ask(describe_topics, topicFilter="ORDER", pageSize=100)
same([entry["topicName"] for entry in listed["topics"]], ["orders"])
refused(400, "INVALID_ARGUMENT", describe_topics, pageSize=9)
refused(400, "INVALID_ARGUMENT", describe_topics, pageNumber=0)
point = ask(describe_access_point, **T)["accessPoint"]
same(point, {"sdkAddress": "", "httpAddress": url})
checked("topics are made, described, listed in pages and found by name")

# Subscriptions.
options = {"messageInvisibleTimeInSeconds": 60, "dlqEnable": True, "maxRetryTimes": 0}
same(ask(create_subscription, **G, **options), EMPTY)
refused(409, "ALREADY_EXISTS", create_subscription, **G, **options)
refused(400, "INVALID_ARGUMENT", create_subscription, topicName="orders", consumerGroupId="short")
for wrong in [{"messageInvisibleTimeInSeconds": 29}, {"messageInvisibleTimeInSeconds": 601}, {"maxRetryTimes": 17}]:
    refused(400, "INVALID_ARGUMENT", create_subscription, topicName="orders", consumerGroupId="group-09", **wrong)
refused(
    400, "INVALID_ARGUMENT", create_subscription, topicName="a+b~c_d-E", consumerGroupId="group-01", dlqEnable=True
)
refused(404, "NOT_FOUND", create_subscription, topicName="nothing", consumerGroupId="group-01")
ask(create_subscription, topicName="orders", consumerGroupId="group-02")
subscription = ask(describe_subscription, **G)["subscription"]
for name in ["createTime", "lastUpdateTime"]:
    assert subscription.pop(name).endswith("Z")
same(
    subscription,
    {
        "consumerGroupId": "group-01",
        "endPoint": "",
        "messageInvisibleTimeInSeconds": 60,
        "subscriptionType": "PULL",
        "tags": [],
        "dlqEnable": True,
        "maxRetryTimes": 0,
        "consumerNumbers": 0,
    },
)
defaults = ask(describe_subscription, topicName="orders", consumerGroupId="group-02")["subscription"]
same((defaults["messageInvisibleTimeInSeconds"], defaults["dlqEnable"], defaults["maxRetryTimes"]), (30, True, 16))
ask(modify_subscription, topicName="orders", consumerGroupId="group-02", messageInvisibleTimeInSeconds=600)
ask(modify_subscription, topicName="orders", consumerGroupId="group-02", dlqEnable=False)
changed = ask(describe_subscription, topicName="orders", consumerGroupId="group-02")["subscription"]
same((changed["messageInvisibleTimeInSeconds"], changed["dlqEnable"], changed["maxRetryTimes"]), (600, False, 0))
refused(400, "INVALID_ARGUMENT", modify_subscription, topicName="orders", consumerGroupId="group-02", maxRetryTimes=3)
ask(modify_subscription, topicName="orders", consumerGroupId="group-02", dlqEnable=True, maxRetryTimes=3)
changed = ask(describe_subscription, topicName="orders", consumerGroupId="group-02")["subscription"]
same((changed["dlqEnable"], changed["maxRetryTimes"]), (True, 3))
listed = ask(describe_subscriptions, topicName="orders", consumerGroupFilter="GROUP-02")
same([entry["consumerGroupId"] for entry in listed["subscriptions"]], ["group-02"])
same(ask(describe_subscriptions, topicName="orders")["totalCount"], 2)
same(ask(describe_topic, **T)["topic"]["subscriptionCount"], 2)
same(ask(describe_group_ids), {"consumerGroupIds": ["group-01", "group-02"]})
refused(404, "NOT_FOUND", describe_subscription, topicName="orders", consumerGroupId="group-99")
checked("subscriptions are made, described, changed and listed")

# Messages, sent as the manual says, and seen by the management client.
ids = publish(
    "orders",
    {"body": "a 京东 1&2=3", "tag": "red", "properties": {"BUSINESS_ID": "order-7", "K": "v"}},
    {"body": "b", "properties": {}},
)
message = ask(describe_message, **T, messageId=ids[0])["message"]
assert message.pop("storeTime") <= now()
same(json.loads(message.pop("properties")), {"BUSINESS_ID": "order-7", "K": "v"})
same(message, {"messageId": ids[0], "body": "a 京东 1&2=3", "tags": "red"})
refused(404, "NOT_FOUND", describe_message, **T, messageId="0" * 32)
refused(400, "INVALID_ARGUMENT", describe_message, **T, messageId="x")
listed = ask(describe_messages, **T, startTime=BEGIN, endTime=END)["messages"]
same([entry["messageId"] for entry in listed], ids)
same(ask(describe_messages, **T, startTime=BEGIN, endTime=BEGIN)["messages"], [])
same(ask(describe_messages, **T, startTime=BEGIN, endTime=END, pageNumber=2)["messages"], [])
refused(400, "INVALID_ARGUMENT", describe_messages, **T, startTime="yesterday", endTime=END)
found = ask(describe_by_business_id, **T, businessId="order-7")["messages"]
same([entry["messageId"] for entry in found], ids[:1])
same(ask(describe_by_business_id, **T, businessId="order-8")["messages"], [])
delayed = publish("orders", {"body": "later", "delaySeconds": 3600})[0]
refused(404, "NOT_FOUND", describe_message, **T, messageId=delayed)
produced = ask(describe_trace, **T, messageId=delayed)["messageTraceInfo"]["produceInfo"]
same((produced["messageSendStatus"], produced["delayTime"]), ("SUCCESS_DELAY", 3600))
checked("messages are found by id, time and business id, delayed ones only by their trace")


def trace(message_id):
    info = ask(describe_trace, **T, messageId=message_id)["messageTraceInfo"]
    same(info["produceInfo"]["messageSendStatus"], "SUCCESS_NORMAL")
    states = {}
    for entry in info["consumeInfoList"]:
        same(entry.pop("consumerInfoDetailList"), [])
        group = entry.pop("consumerGroupId")
        states[group] = (entry["messageConsumeStatus"], entry["successTimes"], entry["failedTimes"])
    return states


same(trace(ids[0]), {"group-01": ("UNCONSUMED", 0, 0), "group-02": ("UNCONSUMED", 0, 0)})
pulled = pull("orders", "group-02")
same(bodies(pulled), ["a 京东 1&2=3", "b"])
assert pulled["ackIndex"].startswith("broker-")
restart()
same(ack("orders", "group-02", pulled, "RESEND"), None)
same(trace(ids[0])["group-02"], ("FAILED_RETRY", 0, 1))
pulled = pull("orders", "group-02", version="v1", size=1)
assert isinstance(pulled["ackIndex"], int)
restart()
same(ack("orders", "group-02", pulled, version="v1"), None)
same(ack("orders", "group-02", pulled, version="v1", status=400), "ACK_FAILED")
same(trace(ids[0])["group-02"], ("SUCCESS", 1, 0))
same(bodies(pull("orders", "group-02", ack="true")), ["b"])
checked("an ack index of either version survives a kill of the server, and a batch is acked once")

# Dead letters: one delivery and no retry.
same(bodies(pulled := pull("orders", "group-01")), ["a 京东 1&2=3", "b"])
same(ack("orders", "group-01", pulled, "CONSUME_FAILED"), None)
same(bodies(pull("orders", "group-01")), [])
same(trace(ids[0])["group-01"], ("ALL_FAILED", 0, 1))
listed = ask(list_dead_letters, **G, startTime=BEGIN, endTime=END)
same(([letter["messageId"] for letter in listed["deadLetters"]], listed["totalCount"]), (ids, 2))
assert listed["deadLetters"][0]["expireTime"] > now()
same(ask(list_dead_letters, **G, startTime=BEGIN, endTime=BEGIN), {"deadLetters": [], "totalCount": 0})
numbers = ask(describe_numbers, consumerGroupId="group-01")
same((numbers["totalCount"], numbers["deadLetterNumbers"][0]["deadLetterNumber"]), (1, 2))
same(
    ask(describe_topic_numbers, **T)["deadLetterNumbers"],
    [
        {"topicId": topic["topicId"], "topicName": "orders", "consumerGroupId": "group-01", "deadLetterNumber": 2},
        {"topicId": topic["topicId"], "topicName": "orders", "consumerGroupId": "group-02", "deadLetterNumber": 0},
    ],
)
same(ask(describe_topics)["totalCount"], 12)
same(ask(resend_dead_letters, **G, messageIds=f"{ids[1]},{'0' * 32}"), {"messageIds": [ids[1]]})
same(bodies(pulled := pull("orders", "group-01")), ["b"])
same(ack("orders", "group-01", pulled, "CONSUME_FAILED"), None)
same(sorted(ask(resend_dead_letters, **G)["messageIds"]), sorted(ids))
same(sorted(bodies(pulled := pull("orders", "group-01"))), ["a 京东 1&2=3", "b"])
same(ack("orders", "group-01", pulled, "CONSUME_FAILED"), None)
refused(400, "INVALID_ARGUMENT", resend_dead_letters, **G, messageIds="x")
same(ask(delete_dead_letters, **G, messageIds=ids[0]), {"messageIds": [ids[0]]})
same(ask(delete_dead_letters, **G), {"messageIds": [ids[1]]})
same(ask(describe_numbers, consumerGroupId="group-01")["deadLetterNumbers"][0]["deadLetterNumber"], 0)
checked("dead letters are listed, counted, sent again and deleted")

# Positions.
ask(create_topic, topicName="moved", type="normal")
M = {"topicName": "moved", "consumerGroupId": "group-01"}
publish("moved", {"body": "old"})
same(bodies(pull("moved", "group-01", ack="true")), ["old"])
ask(reset_offset, **M, time=BEGIN)
same(bodies(pull("moved", "group-01", ack="true")), ["old"])
publish("moved", {"body": "unwanted"})
ask(clean_messages, **M)
same(bodies(pull("moved", "group-01")), [])
refused(400, "INVALID_ARGUMENT", reset_offset, **M, time="x")
refused(404, "NOT_FOUND", clean_messages, topicName="moved", consumerGroupId="group-99")
checked("a subscription is set back to a time, and past all that waits")

# Order.
publish("a+b~c_d-E", {"body": "1"}, {"body": "2"}, kind="ORDER")
same(bodies(pulled := pull("a+b~c_d-E", "group-03", size=1)), ["1"])
same(bodies(pull("a+b~c_d-E", "group-03")), [])
ack("a+b~c_d-E", "group-03", pulled)
same(bodies(pull("a+b~c_d-E", "group-03")), ["2"])
checked("an ordered topic, with every character that a name may have")

# Permissions.
P = {"topicName": "orders", "targetUserId": OTHER_KEY}
other = (OTHER_KEY, OTHER_SECRET)
if LOCKED:
    one = {"topic": "orders", "type": "NORMAL", "messages": [{"body": "from another"}]}
    same(post("/v2/messages", 403, other, **one), "TOPIC_AUTH_FAILED")
    same(ask(add_permission, **P, permission="PUB"), EMPTY)
    same(ask(describe_permission, **T), {"permissions": [{"userId": OTHER_KEY, "permission": "PUB"}]})
    restart()
    assert post("/v2/messages", 200, other, **one)["messageIds"]
    same(get("/v2/messages", 403, other, topic="orders", consumerGroupId="group-04"), "TOPIC_AUTH_FAILED")
    same(get("/v2/messages", 403, other, topic="moved", consumerGroupId="group-04"), "TOPIC_AUTH_FAILED")
    ask(add_permission, **P, permission="SUB")
    same(ask(describe_permission, **T)["permissions"][0]["permission"], "PUBSUB")
    assert "from another" in bodies(get("/v2/messages", 200, other, topic="orders", consumerGroupId="group-04"))
    same(ask(remove_permission, **P, permission="PUBSUB"), EMPTY)
    same(post("/v2/messages", 403, other, **one), "TOPIC_AUTH_FAILED")
    refused(403, "TOPIC_AUTH_FAILED", describe_topic, other, **T)
    refused(403, "TOPIC_AUTH_FAILED", add_permission, other, **P, permission="PUB")
else:
    refused(404, "NOT_FOUND", add_permission, **P, permission="PUB")
    same(ask(remove_permission, **P, permission="PUBSUB"), EMPTY)
same(ask(describe_permission, **T), {"permissions": []})
refused(404, "NOT_FOUND", add_permission, topicName="orders", targetUserId="nobody", permission="PUB")
refused(400, "INVALID_ARGUMENT", add_permission, **P, permission="ALL")
checked("a topic lets another key publish and pull, until it no longer does")

if LOCKED:
    refused(403, "PERMISSION_DENIED", describe_topics, (ACCESS_KEY, "wrong"))
    refused(403, "PERMISSION_DENIED", describe_topics, ("nobody", SECRET_KEY))
    same(get("/v2/messages", 403, (ACCESS_KEY, "wrong"), topic="orders", consumerGroupId="group-01"), "PERMISSION_DENIED")
    checked("a wrong secret opens nothing")

# The end of it all.
same(ask(delete_subscription, **G), EMPTY)
refused(404, "NOT_FOUND", delete_subscription, **G)
same(ask(delete_topic, **T), EMPTY)
refused(404, "NOT_FOUND", delete_topic, **T)
same(get("/v2/messages", 400, topic="orders", consumerGroupId="group-01"), "TOPIC_NOT_EXIST")
same(len(asked), 25)
checked("subscriptions and topics are deleted; all 25 calls were made")
print("done", flush=True)
