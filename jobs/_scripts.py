"""The store's changes that must happen as a whole, as Lua scripts that Redis runs one at a time.

A client that lost the connection sends a script again without knowing whether it ran: each one that writes
for an attempt gives the same answer when it is run twice.

All scripts begin with the same prelude. Leases live in one hash per job (task -> "token expiry_ms"): an
attempt may write as long as the hash still names its token, even after the expiry, because nobody has taken
over; so a paused process never loses work that nobody else has begun, and never overwrites another one's.

Keys are derived from the job's id inside the scripts, so the store needs one Redis server, not a cluster.
"""

from __future__ import annotations

_PRELUDE = """
local prefix = 'dv:'
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function job_key(id) return prefix .. 'job:' .. id end
local function get(id, field) return redis.call('HGET', job_key(id), field) end
local function touch(id)
  redis.call('HINCRBY', job_key(id), 'version', 1)
  redis.call('HSET', job_key(id), 'updated_at', now_ms())
end
local function emit(id, kind, detail)
  local key = prefix .. 'events:' .. id
  redis.call('XADD', key, 'MAXLEN', '~', 512, '*', 'type', kind, 'detail', detail or '{}')
  redis.call('PUBLISH', prefix .. 'events', id)
end
local function live_leases(id, except)
  local found, now = 0, now_ms()
  local all = redis.call('HGETALL', job_key(id) .. ':leases')
  for i = 1, #all, 2 do
    local expiry = tonumber(string.match(all[i + 1], ' (%d+)$'))
    if all[i] ~= except and expiry > now then found = found + 1 end
  end
  return found
end
local function is_leased(id, task)
  local lease = redis.call('HGET', job_key(id) .. ':leases', task)
  return lease and tonumber(string.match(lease, ' (%d+)$')) > now_ms()
end
local function holds(id, task, token)
  local lease = redis.call('HGET', job_key(id) .. ':leases', task)
  return lease and string.match(lease, '^(%S+)') == token
end
local function is_final(state) return state == 'completed' or state == 'failed' or state == 'cancelled' end
local function set_state(id, new)
  local old, owner, priority = get(id, 'state'), get(id, 'owner'), get(id, 'priority')
  redis.call('HSET', job_key(id), 'state', new)
  redis.call('ZREM', prefix .. 'jobs:' .. owner .. ':state:' .. old, id)
  redis.call('ZADD', prefix .. 'jobs:' .. owner .. ':state:' .. new, 0, id)
  redis.call('HINCRBY', prefix .. 'counts', old, -1)
  redis.call('HINCRBY', prefix .. 'counts', new, 1)
  if new ~= 'queued' then redis.call('ZREM', prefix .. 'waiting:' .. priority, id) end
  local batch = get(id, 'batch_id')
  if batch and batch ~= '' then
    redis.call('HINCRBY', prefix .. 'batch:' .. batch .. ':counts', old, -1)
    redis.call('HINCRBY', prefix .. 'batch:' .. batch .. ':counts', new, 1)
  end
  if is_final(new) then
    redis.call('ZREM', prefix .. 'active', id)
    redis.call('HSET', job_key(id), 'completed_at', now_ms())
    redis.call('HINCRBY', prefix .. 'finished', new, 1)
    redis.call('DEL', job_key(id) .. ':partial', job_key(id) .. ':enqueued')
    redis.call('HDEL', job_key(id), 'stage')
    if get(id, 'has_webhook') == '1' or (batch and batch ~= '') then
      redis.call('ZADD', prefix .. 'webhooks:pending', now_ms(), id .. ' ' .. new)
    end
  else
    redis.call('ZADD', prefix .. 'active', 0, id)
    if new == 'in_progress' and get(id, 'has_webhook') == '1' then
      redis.call('ZADD', prefix .. 'webhooks:pending', now_ms(), id .. ' ' .. new)
    end
  end
  touch(id)
  emit(id, is_final(new) and new or 'status')
end
local function expire_after(id, ttl_ms)
  local at = now_ms() + ttl_ms
  redis.call('HSET', job_key(id), 'expires_at', at)
  redis.call('ZADD', prefix .. 'expiring', at, id)
end
local function count_frames(id)
  local sum = tonumber(get(id, 'done_frames') or '0')
  for _, value in ipairs(redis.call('HVALS', job_key(id) .. ':partial')) do sum = sum + tonumber(value) end
  redis.call('HSET', job_key(id), 'processed_frames', sum)
  return sum
end
local function add_warnings(id, list)
  local have = cjson.decode(get(id, 'warnings') or '[]')
  local seen = {}
  for _, text in ipairs(have) do seen[text] = true end
  for _, text in ipairs(cjson.decode(list)) do
    if not seen[text] and #have < 100 then have[#have + 1] = text; seen[text] = true end
  end
  if #have > 0 then redis.call('HSET', job_key(id), 'warnings', cjson.encode(have)) end
end
"""

# ARGV: id, owner, priority, batch_id, max_waiting, max_of_owner, has_webhook, total_frames, spec, warnings,
# labels as a JSON list of "name:value".
CREATE = (
    _PRELUDE
    + """
local id, owner, priority, batch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', job_key(id)) == 1 then return {'exists', 0} end
local waiting = 0
for _, name in ipairs({'high', 'normal', 'low'}) do
  waiting = waiting + redis.call('ZCARD', prefix .. 'waiting:' .. name)
end
if waiting >= tonumber(ARGV[5]) then return {'queue_full', waiting} end
local unfinished = 0
for _, name in ipairs({'queued', 'in_progress', 'cancelling'}) do
  unfinished = unfinished + redis.call('ZCARD', prefix .. 'jobs:' .. owner .. ':state:' .. name)
end
if tonumber(ARGV[6]) > 0 and unfinished >= tonumber(ARGV[6]) then return {'owner_full', unfinished} end
local now = now_ms()
redis.call('HSET', job_key(id), 'spec', ARGV[9], 'owner', owner, 'priority', priority, 'batch_id', batch,
  'state', 'queued', 'version', 1, 'updated_at', now, 'has_webhook', ARGV[7], 'done_frames', 0,
  'processed_frames', 0, 'num_segments', 0, 'num_finished', 0, 'next_segment', 0, 'is_planned', 0,
  'attempts', 0, 'labels', ARGV[11])
if ARGV[8] ~= '' then redis.call('HSET', job_key(id), 'total_frames', ARGV[8]) end
add_warnings(id, ARGV[10])
redis.call('SADD', prefix .. 'input:' .. cjson.decode(ARGV[9]).input_key, id)
redis.call('ZADD', prefix .. 'jobs:' .. owner, 0, id)
redis.call('ZADD', prefix .. 'jobs:' .. owner .. ':state:queued', 0, id)
for _, label in ipairs(cjson.decode(ARGV[11])) do
  redis.call('ZADD', prefix .. 'jobs:' .. owner .. ':label:' .. label, 0, id)
end
if batch ~= '' then
  redis.call('ZADD', prefix .. 'batch:' .. batch .. ':jobs', 0, id)
  redis.call('HINCRBY', prefix .. 'batch:' .. batch .. ':counts', 'queued', 1)
end
redis.call('HINCRBY', prefix .. 'counts', 'queued', 1)
redis.call('ZADD', prefix .. 'waiting:' .. priority, now, id)
redis.call('ZADD', prefix .. 'active', 0, id)
emit(id, 'status')
return {'ok', waiting}
"""
)

# ARGV: id, task, token, ttl_ms, max_attempts, worker, num_workers.
BEGIN = (
    _PRELUDE
    + """
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
local state = get(id, 'state')
if not state then return {'gone', 0} end
if is_final(state) or state == 'cancelling' then return {'stopped', 0} end
local index = string.match(task, '^segment:(%d+)$')
if index and redis.call('HEXISTS', job_key(id) .. ':segments', index) == 1 then return {'done', 0} end
if task == 'plan' and get(id, 'is_planned') == '1' then return {'done', 0} end
local now = now_ms()
local lease = redis.call('HGET', job_key(id) .. ':leases', task)
if lease then
  local left = tonumber(string.match(lease, ' (%d+)$')) - now
  if string.match(lease, '^(%S+)') == token then
    return {'ok', tonumber(redis.call('HGET', job_key(id) .. ':attempts', task))}
  end
  if left > 0 then return {'busy', left} end
end
if redis.call('HGET', job_key(id) .. ':failed_on', task) == ARGV[6] and tonumber(ARGV[7]) > 1 then
  if redis.call('HINCRBY', job_key(id) .. ':handed_on', task, 1) <= 10 then return {'elsewhere', 1000} end
end
local attempt = redis.call('HINCRBY', job_key(id) .. ':attempts', task, 1)
if attempt > tonumber(ARGV[5]) then return {'exhausted', attempt - 1} end
redis.call('HSET', job_key(id) .. ':leases', task, token .. ' ' .. (now + tonumber(ARGV[4])))
if task == 'plan' then redis.call('HDEL', job_key(id), 'planning_asked') end
if attempt > tonumber(get(id, 'attempts')) then redis.call('HSET', job_key(id), 'attempts', attempt) end
if not get(id, 'started_at') then redis.call('HSET', job_key(id), 'started_at', now) end
local stage = index and 'upscaling' or (task == 'join' and 'joining' or 'planning')
local before = get(id, 'stage')
if not (stage == 'planning' and before == 'upscaling') then
  redis.call('HSET', job_key(id), 'stage', stage)
end
if index and not get(id, 'upscaling_started_at') then
  redis.call('HSET', job_key(id), 'upscaling_started_at', now)
end
if state == 'queued' then set_state(id, 'in_progress')
elseif before ~= get(id, 'stage') then touch(id); emit(id, 'status') end
return {'ok', attempt}
"""
)

# ARGV: id, task, token, ttl_ms, frames of this attempt or -1. Returns what the attempt should do.
RENEW = (
    _PRELUDE
    + """
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
local state = get(id, 'state')
if not state or is_final(state) or state == 'cancelling' then return 'stopped' end
if not holds(id, task, token) then return 'lost' end
local now = now_ms()
redis.call('HSET', job_key(id) .. ':leases', task, token .. ' ' .. (now + tonumber(ARGV[4])))
if tonumber(ARGV[5]) >= 0 then
  local before = get(id, 'processed_frames')
  redis.call('HSET', job_key(id) .. ':partial', task, ARGV[5])
  if tostring(count_frames(id)) ~= before then
    touch(id)
    if now - tonumber(get(id, 'progress_event_at') or '0') >= 500 then
      redis.call('HSET', job_key(id), 'progress_event_at', now)
      emit(id, 'progress')
    end
  end
end
return 'ok'
"""
)

# ARGV: id, task, token, how: "finished", "failed" (counts as an attempt) or "drained" (does not), worker,
# ttl_ms.
END = (
    _PRELUDE
    + """
local id, task, token, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = get(id, 'state')
if not state then return 'gone' end
if not holds(id, task, token) then return 'lost' end
redis.call('HDEL', job_key(id) .. ':leases', task)
redis.call('HDEL', job_key(id) .. ':partial', task)
count_frames(id)
if how == 'finished' then redis.call('HDEL', job_key(id) .. ':attempts', task) end
if how == 'drained' and tonumber(redis.call('HGET', job_key(id) .. ':attempts', task) or '0') > 0 then
  redis.call('HINCRBY', job_key(id) .. ':attempts', task, -1)
end
if how == 'failed' then redis.call('HSET', job_key(id) .. ':failed_on', task, ARGV[5]) end
if state == 'cancelling' and live_leases(id, '') == 0 then
  set_state(id, 'cancelled')
  expire_after(id, tonumber(ARGV[6]))
end
return 'ok'
"""
)

# ARGV: id, token, first index, planner state, is_complete, total_frames, then the segments.
APPEND_PLAN = (
    _PRELUDE
    + """
local id, token = ARGV[1], ARGV[2]
if get(id, 'state') ~= 'in_progress' then return 'stopped' end
if not holds(id, 'plan', token) then return 'lost' end
local length = redis.call('LLEN', job_key(id) .. ':plan')
if length > tonumber(ARGV[3]) and redis.call('LINDEX', job_key(id) .. ':plan', -1) == ARGV[#ARGV] then
  return 'ok'
end
if length ~= tonumber(ARGV[3]) then return 'lost' end
for i = 7, #ARGV do redis.call('RPUSH', job_key(id) .. ':plan', ARGV[i]) end
redis.call('HSET', job_key(id), 'num_segments', redis.call('LLEN', job_key(id) .. ':plan'),
  'plan_state', ARGV[4], 'is_planned', ARGV[5])
if ARGV[6] ~= '' then redis.call('HSET', job_key(id), 'total_frames', ARGV[6]) end
redis.call('HDEL', job_key(id) .. ':attempts', 'plan')
touch(id)
return 'ok'
"""
)

# ARGV: id, task, token, name, value, name, value, ... Fields that an attempt may set while it holds its
# lease.
SET_FIELDS = (
    _PRELUDE
    + """
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
if not get(id, 'state') then return 'gone' end
if not holds(id, task, token) then return 'lost' end
for i = 4, #ARGV, 2 do
  if ARGV[i] == 'warnings' then add_warnings(id, ARGV[i + 1])
  else redis.call('HSET', job_key(id), ARGV[i], ARGV[i + 1]) end
end
touch(id)
return 'ok'
"""
)

# ARGV: id, index, token, segment, num_frames, warnings.
PUBLISH = (
    _PRELUDE
    + """
local id, index, token = ARGV[1], ARGV[2], ARGV[3]
local state, task = get(id, 'state'), 'segment:' .. index
if not state then return 'gone' end
if redis.call('HGET', job_key(id) .. ':segments', index) == ARGV[4] then return 'ok' end
if state ~= 'in_progress' then return 'stopped' end
if not holds(id, task, token) then return 'lost' end
if redis.call('HSETNX', job_key(id) .. ':segments', index, ARGV[4]) == 0 then return 'done' end
redis.call('HDEL', job_key(id) .. ':partial', task)
redis.call('SREM', job_key(id) .. ':enqueued', index)
redis.call('HINCRBY', job_key(id), 'done_frames', ARGV[5])
redis.call('HINCRBY', job_key(id), 'num_finished', 1)
count_frames(id)
add_warnings(id, ARGV[6])
touch(id)
emit(id, 'segment', cjson.encode({index = tonumber(index)}))
return 'ok'
"""
)

# ARGV: id, window. Returns priority, whether to join, whether to plan on, and the segments to enqueue.
ADVANCE = (
    _PRELUDE
    + """
local id, window = ARGV[1], tonumber(ARGV[2])
local state = get(id, 'state')
if not state or is_final(state) or state == 'cancelling' then return {'', 0, 0} end
local planned, cursor = tonumber(get(id, 'num_segments')), tonumber(get(id, 'next_segment'))
local is_planned = get(id, 'is_planned') == '1'
local outstanding = redis.call('SCARD', job_key(id) .. ':enqueued')
local result = {get(id, 'priority'), 0, 0}
while outstanding < window and cursor < planned do
  if redis.call('HEXISTS', job_key(id) .. ':segments', cursor) == 0
      and redis.call('SADD', job_key(id) .. ':enqueued', cursor) == 1 then
    result[#result + 1] = cursor
    outstanding = outstanding + 1
  end
  cursor = cursor + 1
end
redis.call('HSET', job_key(id), 'next_segment', cursor)
if is_planned and planned > 0 and tonumber(get(id, 'num_finished')) == planned then result[2] = 1 end
if not is_planned and planned - cursor < window and get(id, 'planning_asked') ~= '1'
    and not is_leased(id, 'plan') then
  redis.call('HSET', job_key(id), 'planning_asked', 1)
  result[3] = 1
end
return result
"""
)

# ARGV: id, token, output, ttl_ms, warnings.
COMPLETE = (
    _PRELUDE
    + """
local id, token = ARGV[1], ARGV[2]
local state = get(id, 'state')
if not state then return 'gone' end
if state == 'completed' and get(id, 'output') == ARGV[3] then return 'ok' end
if state ~= 'in_progress' then return 'stopped' end
if not holds(id, 'join', token) then return 'lost' end
redis.call('HDEL', job_key(id) .. ':leases', 'join')
redis.call('HSET', job_key(id), 'output', ARGV[3])
add_warnings(id, ARGV[5])
expire_after(id, tonumber(ARGV[4]))
set_state(id, 'completed')
return 'ok'
"""
)

# ARGV: id, error, ttl_ms. Running attempts of other tasks find out when they renew.
FAIL = (
    _PRELUDE
    + """
local id = ARGV[1]
local state = get(id, 'state')
if not state then return 'gone' end
if is_final(state) then return 'stopped' end
if state == 'cancelling' then set_state(id, 'cancelled')
else
  redis.call('HSET', job_key(id), 'error', ARGV[2])
  set_state(id, 'failed')
end
expire_after(id, tonumber(ARGV[3]))
return 'ok'
"""
)

# ARGV: id, ttl_ms.
CANCEL = (
    _PRELUDE
    + """
local id = ARGV[1]
local state = get(id, 'state')
if not state then return 'gone' end
if is_final(state) then return state end
if live_leases(id, '') == 0 then
  set_state(id, 'cancelled')
  expire_after(id, tonumber(ARGV[2]))
elseif state ~= 'cancelling' then
  set_state(id, 'cancelling')
end
return 'ok'
"""
)

# ARGV: id.
RETRY = (
    _PRELUDE
    + """
local id = ARGV[1]
local state = get(id, 'state')
if not state then return 'gone' end
if state ~= 'failed' and state ~= 'cancelled' then return state end
redis.call('HDEL', job_key(id), 'error', 'completed_at', 'expires_at', 'started_at', 'upscaling_started_at',
  'planning_asked')
redis.call('DEL', job_key(id) .. ':attempts', job_key(id) .. ':failed_on', job_key(id) .. ':handed_on',
  job_key(id) .. ':leases', job_key(id) .. ':partial', job_key(id) .. ':enqueued')
redis.call('HSET', job_key(id), 'next_segment', 0, 'attempts', 0)
redis.call('ZREM', prefix .. 'expiring', id)
count_frames(id)
set_state(id, 'queued')
redis.call('ZADD', prefix .. 'waiting:' .. get(id, 'priority'), now_ms(), id)
return 'ok'
"""
)

# ARGV: id.
DELETE = (
    _PRELUDE
    + """
local id = ARGV[1]
local state, owner = get(id, 'state'), get(id, 'owner')
if not state then return 0 end
redis.call('ZREM', prefix .. 'jobs:' .. owner, id)
redis.call('ZREM', prefix .. 'jobs:' .. owner .. ':state:' .. state, id)
for _, label in ipairs(cjson.decode(get(id, 'labels') or '[]')) do
  redis.call('ZREM', prefix .. 'jobs:' .. owner .. ':label:' .. label, id)
end
redis.call('HINCRBY', prefix .. 'counts', state, -1)
redis.call('SREM', prefix .. 'input:' .. cjson.decode(get(id, 'spec')).input_key, id)
local batch = get(id, 'batch_id')
if batch and batch ~= '' then
  redis.call('ZREM', prefix .. 'batch:' .. batch .. ':jobs', id)
  redis.call('HINCRBY', prefix .. 'batch:' .. batch .. ':counts', state, -1)
  redis.call('HINCRBY', prefix .. 'batch:' .. batch .. ':counts', 'deleted', 1)
end
redis.call('ZREM', prefix .. 'waiting:' .. get(id, 'priority'), id)
redis.call('ZREM', prefix .. 'active', id)
redis.call('ZREM', prefix .. 'expiring', id)
emit(id, 'deleted')
redis.call('EXPIRE', prefix .. 'events:' .. id, 60)
for _, suffix in ipairs({'', ':segments', ':plan', ':partial', ':attempts', ':enqueued', ':leases',
    ':failed_on', ':handed_on'}) do
  redis.call('DEL', job_key(id) .. suffix)
end
return 1
"""
)
