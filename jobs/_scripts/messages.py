"""The queue's changes. Its keys, all of the queue's own database:

    dv:queue:<queue>:messages            id -> what is known of it, as JSON
    dv:queue:<queue>:line:<owner> <line> list of "place id": what waits, first come, first served
    dv:queue:<queue>:sizes               owner -> how many wait
    dv:queue:<queue>:turns               sorted set: owners with something waiting by the time they have had
    dv:queue:<queue>:rested              sorted set: the others whose time is ahead of the present
    dv:queue:<queue>:present             the time of whoever was last
    dv:queue:<queue>:last                owner -> number of the group that was last, of those who have several
    dv:queue:<queue>:later, :taken       sorted sets: what waits for a time, or until its holder is silent for
                                         too long, by that time
    dv:queue:receipts                    receipt -> "queue id"
    dv:queue:bell:<line>                 list of at most one: somebody should look at that line

Turns are start-time fair queueing: each message of an owner moves the owner's time on by 1 / weight, and the
owner whose time is least is next. One that was idle begins at the present.
"""

from __future__ import annotations

from jobs.clock import LUA_NOW_MS

_PRELUDE = (
    LUA_NOW_MS
    + """
local function key(...) return 'dv:queue:' .. table.concat({...}, ':') end
local function line_key(queue, owner, line) return key(queue, 'line', owner .. ' ' .. line) end
local function ring(line)
  if redis.call('LLEN', key('bell', line)) == 0 then redis.call('RPUSH', key('bell', line), 1) end
end
local function load(queue, id)
  local text = redis.call('HGET', key(queue, 'messages'), id)
  return text and cjson.decode(text)
end
local function save(queue, id, message)
  redis.call('HSET', key(queue, 'messages'), id, cjson.encode(message))
end
local function enlist(queue, id, message, is_back)
  local lines, owner = line_key(queue, message.owner, message.line), message.owner
  if is_back then redis.call('LPUSH', lines, '0 ' .. id)
  else redis.call('RPUSH', lines, redis.call('INCR', key('places')) .. ' ' .. id) end
  if redis.call('HINCRBY', key(queue, 'sizes'), owner, 1) == 1 then
    local present = tonumber(redis.call('GET', key(queue, 'present')) or '0')
    local own = tonumber(redis.call('ZSCORE', key(queue, 'rested'), owner) or '0')
    redis.call('ZADD', key(queue, 'turns'), math.max(present, own), owner)
    redis.call('ZREM', key(queue, 'rested'), owner)
  end
  ring(message.line)
end
-- It is nobody's any more; whoever held it will find that out.
local function let_go(queue, id, message)
  redis.call('HDEL', key('receipts'), message.receipt)
  redis.call('ZREM', key(queue, 'taken'), id)
  message.receipt = nil
  save(queue, id, message)
end
local function put_off(queue, id, message, at)
  redis.call('ZADD', key(queue, 'later'), at, id)
  ring(message.line)  -- whoever waits should wait no longer than that
end
"""
)

# ARGV: queue, id, line, owner, weight, delay in ms, name of this call. What waits already stays in its place;
# what somebody holds is taken from them: only they, or somebody who begins anew, put it again.
PUT = (
    _PRELUDE
    + """
local queue, id, delay, call = ARGV[1], ARGV[2], tonumber(ARGV[6]), ARGV[7]
local message = load(queue, id)
local at = delay > 0 and now_ms() + delay
if message then
  if message.call == call then return end  -- sent again
  if message.receipt then
    let_go(queue, id, message)
  else
    local due = redis.call('ZSCORE', key(queue, 'later'), id)
    if not due or (at and tonumber(due) <= at) then return end
    redis.call('ZREM', key(queue, 'later'), id)
  end
end
message = {line = ARGV[3], owner = ARGV[4], weight = tonumber(ARGV[5]), call = call, tries = 0}
save(queue, id, message)
if at then put_off(queue, id, message, at) else enlist(queue, id, message) end
"""
)

# ARGV: receipt, how long it is held in ms, JSON list of queues, JSON list of groups of lines. Returns queue,
# id, line and number of tries; or in how many ms there may be something, -1 if nothing is known of that.
# Queues are strictly in order. The groups of one owner take turns; within a group, who came first.
TAKE = (
    _PRELUDE
    + """
local receipt, hold = ARGV[1], tonumber(ARGV[2])
local queues, groups = cjson.decode(ARGV[3]), cjson.decode(ARGV[4])
local now = now_ms()
local function taken(queue, id, message) return {queue, id, message.line, message.tries} end
local before = redis.call('HGET', key('receipts'), receipt)
if before then  -- sent again
  local queue, id = string.match(before, '^(%S+) (.*)$')
  return taken(queue, id, load(queue, id))
end
local function bring_back(queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key(queue, 'taken'), '-inf', now, 'LIMIT', 0, 100)) do
    local message = load(queue, id)
    let_go(queue, id, message)
    enlist(queue, id, message, true)
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key(queue, 'later'), '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('ZREM', key(queue, 'later'), id)
    enlist(queue, id, load(queue, id))
  end
end
local function first_of_group(queue, owner, group)
  local best, best_place
  for _, line in ipairs(group) do
    local head = redis.call('LINDEX', line_key(queue, owner, line), 0)
    local place = head and tonumber(string.match(head, '^%d+'))
    if place and (not best or place < best_place) then best, best_place = line, place end
  end
  return best
end
local function choose_line(queue, owner)
  local last, found = redis.call('HGET', key(queue, 'last'), owner), nil
  for number, group in ipairs(groups) do
    local line = first_of_group(queue, owner, group)
    if line and tostring(number) ~= last then return line, number end
    if line then found = line end
  end
  return found, last
end
local function charge(queue, owner, weight, group)
  local at = tonumber(redis.call('ZSCORE', key(queue, 'turns'), owner))
  redis.call('SET', key(queue, 'present'), string.format('%.17g', at))
  if redis.call('HINCRBY', key(queue, 'sizes'), owner, -1) == 0 then
    redis.call('HDEL', key(queue, 'sizes'), owner)
    redis.call('HDEL', key(queue, 'last'), owner)
    redis.call('ZREM', key(queue, 'turns'), owner)
    redis.call('ZADD', key(queue, 'rested'), at + 1 / weight, owner)
  else
    redis.call('ZADD', key(queue, 'turns'), at + 1 / weight, owner)
    -- Who has no choice must not change that of others.
    if #groups > 1 then redis.call('HSET', key(queue, 'last'), owner, group) end
  end
  redis.call('ZREMRANGEBYSCORE', key(queue, 'rested'), '-inf', at)
end
local function take_from(queue)
  local start = 0
  while true do
    local owners = redis.call('ZRANGE', key(queue, 'turns'), start, start + 99)
    if #owners == 0 then return end
    for _, owner in ipairs(owners) do
      local line, group = choose_line(queue, owner)
      if line then
        local entry = redis.call('LPOP', line_key(queue, owner, line))
        local id = string.match(entry, '^%d+ (.*)$')
        local message = load(queue, id)
        charge(queue, owner, message.weight, group)
        message.tries, message.receipt = message.tries + 1, receipt
        save(queue, id, message)
        redis.call('ZADD', key(queue, 'taken'), now + hold, id)
        redis.call('HSET', key('receipts'), receipt, queue .. ' ' .. id)
        return taken(queue, id, message)
      end
    end
    start = start + 100
  end
end
for _, queue in ipairs(queues) do bring_back(queue) end
local is_more, found = false, nil
for _, queue in ipairs(queues) do
  found = found or take_from(queue)
  is_more = is_more or redis.call('EXISTS', key(queue, 'turns')) == 1
end
if found then
  -- A bell wakes one; that one wakes the next.
  if is_more then
    for _, group in ipairs(groups) do
      for _, line in ipairs(group) do ring(line) end
    end
  end
  return found
end
local next_at
for _, queue in ipairs(queues) do
  for _, name in ipairs({'later', 'taken'}) do
    local at = tonumber(redis.call('ZRANGE', key(queue, name), 0, 0, 'WITHSCORES')[2])
    if at and (not next_at or at < next_at) then next_at = at end
  end
end
return {next_at and math.max(next_at - now, 1) or -1}
"""
)

# ARGV: receipt, for how long from now in ms. Returns whether it is still held.
KEEP = (
    _PRELUDE
    + """
local held = redis.call('HGET', key('receipts'), ARGV[1])
if not held then return 0 end
local queue, id = string.match(held, '^(%S+) (.*)$')
redis.call('ZADD', key(queue, 'taken'), now_ms() + tonumber(ARGV[2]), id)
return 1
"""
)

# ARGV: receipt, after how many ms others may have it; -1 ends it. Nothing happens where it is not held.
RELEASE = (
    _PRELUDE
    + """
local held = redis.call('HGET', key('receipts'), ARGV[1])
if not held then return end
local queue, id = string.match(held, '^(%S+) (.*)$')
local message, delay = load(queue, id), tonumber(ARGV[2])
let_go(queue, id, message)
if delay < 0 then redis.call('HDEL', key(queue, 'messages'), id)
elseif delay > 0 then put_off(queue, id, message, now_ms() + delay)
else enlist(queue, id, message, true) end
"""
)
