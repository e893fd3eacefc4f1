// Drives windlass with the published npm client. Prints one line per thing checked; fails at the first
// that does not hold. Prints `restart` when it wants the server killed and started again, and then reads
// the new address from standard input.

import assert from 'node:assert/strict';
import readline from 'node:readline';

const { SERVER_URL, SERVER_TOKEN, SERVER_MODE, PUBLISH_TOKEN, ACCOUNT: account_id, CLIENT = 'cloudflare' } = process.env;
const { default: Cloudflare } = await import(CLIENT);
// The older major has other argument lists and fewer calls; on the wire they are the same.
const OLDER = CLIENT !== 'cloudflare';
const PATIENCE_MS = 20_000;
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const connect = (url, apiToken = SERVER_TOKEN, options = {}) =>
  new Cloudflare({
    baseURL: `${url}/client/v4`, apiToken, apiEmail: null, apiKey: null, userServiceKey: null, maxRetries: 0, ...options,
  });
let url = SERVER_URL;
let client = connect(url);
let { queues } = client;

const checked = (what) => console.log(`checked: ${what}`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function restart() {
  console.log('restart');
  const { value, done } = await lines.next();
  assert(!done, 'the new address comes on standard input');
  url = value;
  client = connect(url);
  queues = client.queues;
}

async function refused(status, code, kind, ask) {
  const error = await ask().then(
    (answer) => assert.fail(`answered ${JSON.stringify(answer)} where ${status} was due`),
    (error) => error,
  );
  assert(error instanceof kind, `${error?.constructor?.name} is no ${kind.name}: ${error}`);
  assert.equal(error.status, status, String(error));
  assert.equal(error.errors?.[0]?.code ?? error.error?.errors?.[0]?.code, code, JSON.stringify(error.error));
}

const pull = async (id, options = {}) =>
  (await queues.messages.pull(id, { account_id, batch_size: 10, visibility_timeout_ms: 60_000, ...options })).messages;

// Pulls until `count` messages came, within bounds.
async function pullAll(id, count, options) {
  const end = Date.now() + PATIENCE_MS;
  const messages = [];
  while (messages.length < count) {
    assert(Date.now() < end, `${messages.length} of ${count} messages came in ${PATIENCE_MS} ms`);
    const more = await pull(id, options);
    messages.push(...more);
    if (more.length === 0) await pause(20);
  }
  assert.equal(messages.length, count);
  return messages;
}

const ack = (id, messages) =>
  queues.messages.ack(id, { account_id, acks: messages.map(({ lease_id }) => ({ lease_id })) });
const onConsumer = (verb, queue_id, consumer_id, params = {}) =>
  OLDER
    ? queues.consumers[verb](queue_id, consumer_id, { account_id, ...params })
    : queues.consumers[verb](consumer_id, { account_id, queue_id, ...params });
const metricsOf = async (queue_id) =>
  OLDER
    ? (await client.get(`/accounts/${account_id}/queues/${queue_id}/metrics`)).result
    : queues.getMetrics(queue_id, { account_id });
const decoded = ({ body, metadata }) =>
  metadata['CF-Content-Type'] === 'json' ? JSON.parse(Buffer.from(body, 'base64').toString()) : body;

// Queues and consumers.
const queue = await queues.create({ account_id, queue_name: 'orders' });
const id = queue.queue_id;
assert.match(id, /^[0-9a-f]{32}$/);
assert.equal(queue.queue_name, 'orders');
checked('create a queue');
await refused(409, 11009, Cloudflare.ConflictError, () => queues.create({ account_id, queue_name: 'orders' }));
checked('a name taken is 409, 11009');
await refused(400, 11003, Cloudflare.BadRequestError, () => queues.create({ account_id, queue_name: '-no-' }));
checked('a bad name is 400, 11003');
await refused(405, 0, Cloudflare.APIError, () => pull(id));
checked('pull without a consumer is 405, 0');
const settings = { batch_size: 10, max_retries: 1, retry_delay: 0, visibility_timeout_ms: 400 };
const consumerIn = { account_id, type: 'http_pull', dead_letter_queue: 'orders-dead', settings };
const consumer = await queues.consumers.create(id, consumerIn);
assert.equal(consumer.type, 'http_pull');
assert.equal(consumer.dead_letter_queue, 'orders-dead');
assert.deepEqual(consumer.settings, settings);
checked('create a pull consumer');
await refused(400, 11004, Cloudflare.BadRequestError, () => queues.consumers.create(id, consumerIn));
checked('a second consumer is 400, 11004');
const listed = [];
for await (const one of queues.list({ account_id })) listed.push(one);
assert.deepEqual(listed.map((one) => one.queue_name).sort(), ['orders', 'orders-dead']);
const own = listed.find((one) => one.queue_id === id);
assert.equal(own.consumers_total_count, 1);
assert.equal(own.consumers[0].consumer_id, consumer.consumer_id);
checked('list queues, the dead-letter queue made by its name among them');
assert.deepEqual((await queues.get(id, { account_id })).settings,
  { delivery_delay: 0, delivery_paused: false, message_retention_period: 345_600 });
checked('get a queue');
const edited = await queues.edit(id, { account_id, settings: { message_retention_period: 3_600 } });
assert.equal(edited.settings.message_retention_period, 3_600);
assert.equal(edited.settings.delivery_delay, 0);
checked('edit a queue');
const updated = await queues.update(id, { account_id, queue_name: 'orders-2', settings: { delivery_delay: 0 } });
assert.equal(updated.queue_name, 'orders-2');
assert.equal(updated.settings.message_retention_period, 345_600);
checked('update replaces a queue, its name too');
assert.equal((await onConsumer('get', id, consumer.consumer_id)).consumer_id, consumer.consumer_id);
const consumers = [];
for await (const one of queues.consumers.list(id, { account_id })) consumers.push(one.consumer_id);
assert.deepEqual(consumers, [consumer.consumer_id]);
checked('get and list consumers');

// Messages, over a crash.
const push = (body) => queues.messages.push(id, { account_id, ...body });
await push({ body: 'héllo ☃', content_type: 'text' });
const json = { n: 1.5, text: 'ü', list: [null, true] };
await push({ body: json, content_type: 'json' });
await queues.messages.bulkPush(id, {
  account_id,
  messages: [{ body: 'b1', content_type: 'text' }, { body: { b: 2 }, content_type: 'json' }],
});
checked('push text, JSON and a batch');
await restart();
const first = await pull(id);
assert.deepEqual(first.map(decoded), ['héllo ☃', json, 'b1', { b: 2 }]);
assert(first.every((message) => message.attempts === 1 && /^[0-9a-f]{32}$/.test(message.id)));
assert(first.every((message) => Math.abs(Date.now() - message.timestamp_ms) < 600_000));
checked('all of it is there after kill -9, in order');
assert.deepEqual(await pull(id), []);
checked('what is leased is nobody else’s');
await restart();
assert.deepEqual(await pull(id), []);
checked('leases survive kill -9');
const retriedAt = Date.now();
const outcome = await queues.messages.ack(id, {
  account_id,
  acks: first.slice(0, 2).map(({ lease_id }) => ({ lease_id })),
  retries: [{ lease_id: first[2].lease_id, delay_seconds: 1 }, { lease_id: first[3].lease_id }],
});
assert.deepEqual({ ...outcome, warnings: undefined }, { ackCount: 2, retryCount: 2, warnings: undefined });
assert.deepEqual(outcome.warnings, {});
checked('ack some, retry some, with leases from before the crash');
const [now] = await pullAll(id, 1);
assert.deepEqual([decoded(now), now.attempts, now.id], [{ b: 2 }, 2, first[3].id]);
const [later] = await pullAll(id, 1);
assert.deepEqual([decoded(later), later.attempts], ['b1', 2]);
assert(Date.now() - retriedAt >= 998, `delayed by a second, it came after ${Date.now() - retriedAt} ms`);
checked('a retry comes again with one more attempt, a delayed one not early');
await ack(id, [now, later]);
await restart();
assert.deepEqual(await pull(id), []);
const metrics = await metricsOf(id);
assert.deepEqual(metrics, { backlog_bytes: 0, backlog_count: 0, oldest_message_timestamp_ms: 0 });
checked('what was acked stays away after kill -9, and the metrics say so');
const strange = await queues.messages.ack(id, { account_id, acks: [{ lease_id: 'nonsense' }] });
assert.equal(strange.ackCount, 0);
assert.equal(Object.keys(strange.warnings).length, 1);
checked('an unknown lease is a warning');

// Lapses, attempts, dead letters.
await push({ body: 'hot', content_type: 'text', delay_seconds: 0 });
const [leased] = await pullAll(id, 1, { visibility_timeout_ms: 300 });
const [again] = await pullAll(id, 1, { visibility_timeout_ms: 300 });
assert.deepEqual([again.id, leased.attempts, again.attempts], [leased.id, 1, 2]);
assert.notEqual(again.lease_id, leased.lease_id);
checked('a lease that lapses makes the message come again');
const dead = (await queues.list({ account_id })).result.find((one) => one.queue_name === 'orders-dead').queue_id;
await queues.consumers.create(dead, { account_id, type: 'http_pull' });
const [letter] = await pullAll(dead, 1);
assert.deepEqual([letter.id, letter.body, letter.attempts], [leased.id, 'hot', 1]);
assert.deepEqual(await pull(id), []);
checked('after max_retries, by a lapse that nobody saw, it is in the dead-letter queue and nowhere else');
await restart();
await ack(dead, [letter]);
assert.equal((await metricsOf(dead)).backlog_count, 0);
checked('a dead letter is acked with its lease from before a crash');

// What is refused.
const none = 'f'.repeat(32);
const { BadRequestError, NotFoundError } = Cloudflare;
await refused(404, 11000, NotFoundError, () => queues.get(none, { account_id }));
await refused(404, 10104, NotFoundError, () => pull(none));
await refused(404, 10104, NotFoundError, () => queues.messages.push(none, { account_id, body: 'x', content_type: 'text' }));
checked('an unknown queue is 404');
await refused(400, 10203, BadRequestError, () => push({ body: 'x', content_type: 'text', delay_seconds: 86_401 }));
await refused(400, 10203, BadRequestError, () => push({ body: 'x', content_type: 'text', delay_seconds: -1 }));
await refused(400, 10202, BadRequestError, () =>
  queues.messages.bulkPush(id, { account_id, delay_seconds: 86_401, messages: [{ body: 'x', content_type: 'text' }] }));
checked('a delay out of bounds is 400');
await refused(400, 10204, BadRequestError, () => push({ body: 'x'.repeat(128_001), content_type: 'text' }));
await refused(413, 10205, Cloudflare.APIError, () => push({ body: 'x'.repeat(3 << 20), content_type: 'text' }));
checked('a body too large is 400 or, when it is not even read, 413');
await refused(400, 10207, BadRequestError, () => pull(id, { batch_size: 101 }));
await refused(400, 10207, BadRequestError, () => pull(id, { visibility_timeout_ms: 43_200_001 }));
checked('a pull out of bounds is 400');
await queues.edit(id, { account_id, settings: { delivery_paused: true } });
await refused(409, 0, Cloudflare.ConflictError, () => pull(id));
let requests = 0;
const counting = (...request) => { requests += 1; return fetch(...request); };
const patient = connect(url, SERVER_TOKEN, { maxRetries: 2, fetch: counting });
await refused(409, 0, Cloudflare.ConflictError, () => patient.queues.messages.pull(id, { account_id }));
assert.equal(requests, 1, 'a client that tries again is told that it is no use');
await push({ body: 'kept', content_type: 'text' });
await queues.edit(id, { account_id, settings: { delivery_paused: false } });
await ack(id, await pullAll(id, 1));
checked('a paused queue takes messages and gives none: 409');
assert.deepEqual(await pull(id), [], 'nothing that was refused was pushed');
if (SERVER_MODE === 'token') {
  const strangers = connect(url, 'wrong').queues;
  await refused(401, 10000, Cloudflare.AuthenticationError, () => strangers.get(id, { account_id }));
  const producers = connect(url, PUBLISH_TOKEN).queues;
  await producers.messages.push(id, { account_id, body: 'x', content_type: 'text' });
  await refused(403, 10000, Cloudflare.PermissionDeniedError, () => producers.delete(id, { account_id }));
  await refused(403, 10000, Cloudflare.PermissionDeniedError, () => producers.messages.pull(id, { account_id }));
  await refused(403, 10000, Cloudflare.PermissionDeniedError, () => queues.get(id, { account_id: 'e'.repeat(32) }));
  checked('a bad token is 401; one without the right, and the account of somebody else, are 403');
}

// Looking, and giving up.
const text = (body, more = {}) => push({ body, content_type: 'text', ...more });
await pullAll(id, SERVER_MODE === 'token' ? 1 : 0).then((messages) => ack(id, messages));
await text('one');
await text('two');
await text('three', { delay_seconds: 600 });
assert.deepEqual(await queues.purge.status(id, { account_id }), { completed: '', started_at: '' });
if (!OLDER) {
  const { messages: seen } = await queues.messages.peek(id, { account_id, batch_size: 10 });
  assert.deepEqual(seen.map(({ body, attempts }) => [body, attempts]), [['one', 0], ['two', 0], ['three', 0]]);
  const refs = [{ ref: seen[0].ref }, { ref: seen[2].ref }, { ref: 'strange' }];
  const given = await queues.messages.purge(id, { account_id, refs });
  assert.deepEqual(given.errors, []);
  assert.deepEqual(Object.keys(given.warnings), ['strange']);
  const left = (await queues.messages.peek(id, { account_id })).messages;
  assert.deepEqual(left.map(({ body, id }) => [body, id]), [['two', seen[1].id]]);
  checked('peek, and purge by what a peek told');
}
const emptied = await queues.purge.start(id, { account_id, delete_messages_permanently: true });
assert.equal(emptied.queue_id, id);
assert.equal((await metricsOf(id)).backlog_count, 0);
assert.deepEqual(await pull(id), []);
const { started_at, completed } = await queues.purge.status(id, { account_id });
assert(Math.abs(Date.now() - Date.parse(started_at)) < 600_000 && Date.parse(completed) >= Date.parse(started_at));
await refused(400, 10026, BadRequestError, () => queues.purge.start(id, { account_id }));
checked('purge all of it, and when that was');
for await (const one of queues.subscriptions.list({ account_id })) assert.fail(`a subscription: ${one.id}`);
await refused(501, 7001, Cloudflare.InternalServerError, () => queues.subscriptions.create({ account_id, name: 's' }));
checked('no event subscriptions: the list ends, making one is 501');
const accounts = [];
for await (const account of client.accounts.list()) accounts.push(account.name);
assert.deepEqual(accounts, [SERVER_MODE === 'token' ? account_id : 'default']);
assert.equal((await client.user.tokens.verify()).status, 'active');
checked('find the account, verify the token');

// The end of it.
await onConsumer('update', id, consumer.consumer_id, { type: 'http_pull' });
assert.equal((await onConsumer('get', id, consumer.consumer_id)).settings.max_retries, 3);
await onConsumer('delete', id, consumer.consumer_id);
await refused(405, 0, Cloudflare.APIError, () => pull(id));
await queues.delete(id, { account_id });
await restart();
await refused(404, 11000, NotFoundError, () => queues.get(id, { account_id }));
await refused(404, 11000, NotFoundError, () => queues.delete(id, { account_id }));
checked('update and delete a consumer, delete a queue: gone, after kill -9 as well');
console.log('done');
process.exit(0);
