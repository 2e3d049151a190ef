"""The segments of a job, as scripts: they are planned, published, and the next ones handed out."""

from __future__ import annotations

from jobs._scripts.prelude import with_prelude

# ARGV: id, token, first index, is_complete, total_frames, then the segments.
APPEND_PLAN = with_prelude("""
local id, token = ARGV[1], ARGV[2]
if get(id, 'state') ~= 'in_progress' then return 'stopped' end
if not holds(id, 'plan', token) then return 'lost' end
local length = redis.call('LLEN', key_job_plan(id))
if length > tonumber(ARGV[3]) and redis.call('LINDEX', key_job_plan(id), -1) == ARGV[#ARGV] then
  return 'ok'
end
if length ~= tonumber(ARGV[3]) then return 'lost' end
for i = 6, #ARGV do redis.call('RPUSH', key_job_plan(id), ARGV[i]) end
redis.call('HSET', key_job(id), 'num_segments', redis.call('LLEN', key_job_plan(id)),
  'is_planned', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', key_job(id), 'total_frames', ARGV[5]) end
redis.call('HDEL', key_job_attempts(id), 'plan')
touch(id)
return 'ok'
""")

# ARGV: id, index, token, segment, num_frames, warnings, size_bytes, max_stored_bytes.
PUBLISH = with_prelude("""
local id, index, token = ARGV[1], ARGV[2], ARGV[3]
local state, task = get(id, 'state'), 'segment:' .. index
if not state then return 'gone' end
if redis.call('HGET', key_job_segments(id), index) == ARGV[4] then return 'ok' end
if state == 'completed' then return 'ok' end
if state ~= 'in_progress' then return 'stopped' end
if not holds(id, task, token) then return 'lost' end
local owner = get(id, 'owner')
local bytes = stored_bytes(owner, id) + tonumber(ARGV[7])
if redis.call('HEXISTS', key_job_segments(id), index) == 0 then
  if not fits_stored(owner, id, bytes, tonumber(ARGV[8])) then return 'stored_full' end
  set_stored(owner, id, bytes)
end
if redis.call('HSETNX', key_job_segments(id), index, ARGV[4]) == 0 then return 'done' end
redis.call('HDEL', key_job_partial(id), task)
redis.call('SREM', key_job_enqueued(id), index)
redis.call('HINCRBY', key_job(id), 'done_frames', ARGV[5])
redis.call('HINCRBY', key_job(id), 'num_finished', 1)
count_frames(id)
add_warnings(id, ARGV[6])
touch(id)
emit(id, 'segment', cjson.encode({index = tonumber(index)}))
return 'ok'
""")

# ARGV: id, window, call. Returns whether to join, whether to plan on, and the segments to enqueue.
ADVANCE = with_prelude("""
return once(ARGV[3], function()
  local id, window = ARGV[1], tonumber(ARGV[2])
  local state = get(id, 'state')
  if not state or is_final(state) or state == 'cancelling' then return {0, 0} end
  local planned, cursor = tonumber(get(id, 'num_segments')), tonumber(get(id, 'next_segment'))
  local is_planned = get(id, 'is_planned') == '1'
  local outstanding = redis.call('SCARD', key_job_enqueued(id))
  local result = {0, 0}
  while outstanding < window and cursor < planned do
    if redis.call('HEXISTS', key_job_segments(id), cursor) == 0
        and redis.call('SADD', key_job_enqueued(id), cursor) == 1 then
      result[#result + 1] = cursor
      outstanding = outstanding + 1
    end
    cursor = cursor + 1
  end
  redis.call('HSET', key_job(id), 'next_segment', cursor)
  if is_planned and planned > 0 and tonumber(get(id, 'num_finished')) == planned then result[1] = 1 end
  if not is_planned and planned - cursor < window and get(id, 'planning_asked') ~= '1'
      and not is_leased(id, 'plan') then
    redis.call('HSET', key_job(id), 'planning_asked', 1)
    result[2] = 1
  end
  return result
end)
""")
