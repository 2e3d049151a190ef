"""Whose message is next: keys take turns by weight, and so do, within a key, its begun and its new jobs.

dramatiq's lists are first come, first served: a key with fifty jobs in them would get fifty times what a key
with one job gets. Beside each list lies an index of its messages by owner; whoever takes the next message has
the one whose turn it is moved to the head of the list first. The lists stay dramatiq's own: a message that is
missing in the index, because a dead worker's came back, is found and added.

Turns are start-time fair queueing: each message of a key moves the key's time on by 1 / weight, and the key
whose time is least is next. A key that was idle begins at the present.
"""

from __future__ import annotations

import time
from typing import Any

import redis
from dramatiq import Broker, Message, Middleware

from jobs.broker import QueueBroker

# ARGV: namespace, queue, the other queue of its priority, priority. Returns 1 where the message at the head
# of the queue may be taken, 0 where it is the other queue's turn, or there is none.
_CHOOSE = """
local namespace, own, other = ARGV[1], ARGV[2], ARGV[3]
local times = namespace .. ':turns:' .. ARGV[4]
local function list_of(queue) return namespace .. ':' .. queue end
local function index_of(queue) return namespace .. ':' .. queue .. '.turns' end
local function adopt(queue)
  local list, index = list_of(queue), index_of(queue)
  local missing, last = redis.call('LLEN', list) - redis.call('ZCARD', index), -1
  while missing > 0 do
    -- From the end: there they are put when they come back.
    local page = redis.call('LRANGE', list, last - 99, last)
    if #page == 0 then break end
    for i = #page, 1, -1 do
      if redis.call('HEXISTS', index .. '.ids', page[i]) == 0 then
        local content = redis.call('HGET', list .. '.msgs', page[i])
        local options = content and cjson.decode(content).options or {}
        local member = string.format('%s %020d %d %s', options.owner or '', 0, options.weight or 1, page[i])
        redis.call('ZADD', index, 0, member)
        redis.call('HSET', index .. '.ids', page[i], member)
        missing = missing - 1
      end
    end
    last = last - 100
  end
end
local function forget(queue, member)
  redis.call('ZREM', index_of(queue), member)
  redis.call('HDEL', index_of(queue) .. '.ids', string.match(member, '(%S+)$'))
end
local function first_of(queue, owner)
  local from, to = '[' .. owner .. ' ', '(' .. owner .. '!'
  return redis.call('ZRANGEBYLEX', index_of(queue), from, to, 'LIMIT', 0, 1)[1]
end
local now = tonumber(redis.call('HGET', times, ' now') or '0')
local best, best_time = nil, nil
local function look_at_owners(queue)
  local from = '-'
  while true do
    local member = redis.call('ZRANGEBYLEX', index_of(queue), from, '+', 'LIMIT', 0, 1)[1]
    if not member then return end
    local owner = string.match(member, '^(%S*) ')
    local at = math.max(now, tonumber(redis.call('HGET', times, owner) or '0'))
    if not best or at < best_time then best, best_time = owner, at end
    from = '[' .. owner .. '!'
  end
end
adopt(own)
adopt(other)
while true do
  best, best_time = nil, nil
  look_at_owners(own)
  look_at_owners(other)
  if not best then return 0 end
  local member = first_of(own, best)
  if not member then return 0 end
  if first_of(other, best) and redis.call('HGET', times, best .. ' last') == own then return 0 end
  local id = string.match(member, '(%S+)$')
  forget(own, member)
  if redis.call('LREM', list_of(own), 1, id) == 1 then
    redis.call('LPUSH', list_of(own), id)
    local weight = tonumber(string.match(member, '(%d+) %S+$'))
    redis.call('HSET', times, ' now', best_time, best, best_time + 1 / weight, best .. ' last', own)
    redis.call('EXPIRE', times, 3600)
    return 1
  end
end
"""


class TurnIndex(Middleware):
    """Notes whose each message is, when it is enqueued. Its options `owner` and `weight` say it."""

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """As dramatiq calls it. Messages that wait for their time come here again when it has come."""
        owner = message.options.get("owner")
        if owner is None or delay is not None:
            return
        message_id, weight = message.options["redis_message_id"], message.options["weight"]
        member = f"{owner} {time.time_ns():020d} {weight} {message_id}"
        index = f"{broker.namespace}:{message.queue_name}.turns"  # type: ignore[attr-defined] # of RedisBroker
        with broker.client.pipeline() as pipeline:  # type: ignore[attr-defined] # of RedisBroker
            pipeline.zadd(index, {member: 0})
            pipeline.hset(f"{index}.ids", message_id, member)
            pipeline.execute()


class Turns:
    """Chooses the next message. Thread-safe.

    Args:
        client: Of the queue's database.
        namespace: Of the broker.
    """

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self._choose: Any = client.register_script(_CHOOSE)
        self._namespace = namespace

    def choose(self, queue: str, other: str, priority: str) -> bool:
        """Moves the message whose turn it is to the head of a queue.

        Args:
            queue: From which a message is to be taken.
            other: The other queue of the same priority.
            priority: Of both.

        Returns:
            Whether one may be taken from this queue now.
        """
        return bool(self._choose(args=[self._namespace, queue, other, priority]))


class TurnBroker(QueueBroker):
    """A broker whose usual consumers take messages in the turns of their keys, from each queue by itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._turns = Turns(self.client, self.namespace)

    def do_fetch(self, queue_name: str, count: int) -> Any:
        """As in `RedisBroker`."""
        if not queue_name.endswith(".DQ"):  # what waits for its time has no turn
            for _ in range(count):
                if not self._turns.choose(queue_name, f"{queue_name}_none", queue_name):
                    break
        return self._dispatch("fetch")(queue_name, count)
