"""The segments of a job, as scripts: they are planned, published, and the next ones handed out."""

from __future__ import annotations

from jobs._scripts.prelude import PRELUDE

# ARGV: id, token, first index, planner state, is_complete, total_frames, then the segments.
APPEND_PLAN = (
    PRELUDE
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

# ARGV: id, index, token, segment, num_frames, warnings, size_bytes, max_stored_bytes.
PUBLISH = (
    PRELUDE
    + """
local id, index, token = ARGV[1], ARGV[2], ARGV[3]
local state, task = get(id, 'state'), 'segment:' .. index
if not state then return 'gone' end
if redis.call('HGET', job_key(id) .. ':segments', index) == ARGV[4] then return 'ok' end
if state == 'completed' then return 'ok' end
if state ~= 'in_progress' then return 'stopped' end
if not holds(id, task, token) then return 'lost' end
local owner = get(id, 'owner')
local bytes = stored_bytes(owner, id) + tonumber(ARGV[7])
if redis.call('HEXISTS', job_key(id) .. ':segments', index) == 0 then
  if not fits_stored(owner, id, bytes, tonumber(ARGV[8])) then return 'stored_full' end
  set_stored(owner, id, bytes)
end
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

# ARGV: id, window, call. Returns whether to join, whether to plan on, and the segments to enqueue.
ADVANCE = (
    PRELUDE
    + """
return once(ARGV[3], function()
  local id, window = ARGV[1], tonumber(ARGV[2])
  local state = get(id, 'state')
  if not state or is_final(state) or state == 'cancelling' then return {0, 0} end
  local planned, cursor = tonumber(get(id, 'num_segments')), tonumber(get(id, 'next_segment'))
  local is_planned = get(id, 'is_planned') == '1'
  local outstanding = redis.call('SCARD', job_key(id) .. ':enqueued')
  local result = {0, 0}
  while outstanding < window and cursor < planned do
    if redis.call('HEXISTS', job_key(id) .. ':segments', cursor) == 0
        and redis.call('SADD', job_key(id) .. ':enqueued', cursor) == 1 then
      result[#result + 1] = cursor
      outstanding = outstanding + 1
    end
    cursor = cursor + 1
  end
  redis.call('HSET', job_key(id), 'next_segment', cursor)
  if is_planned and planned > 0 and tonumber(get(id, 'num_finished')) == planned then result[1] = 1 end
  if not is_planned and planned - cursor < window and get(id, 'planning_asked') ~= '1'
      and not is_leased(id, 'plan') then
    redis.call('HSET', job_key(id), 'planning_asked', 1)
    result[2] = 1
  end
  return result
end)
"""
)
