"""Attempts at tasks, as scripts: they take, keep and give up leases, and write what they found out."""

from __future__ import annotations

from jobs._scripts.prelude import with_prelude

# ARGV: id, task, token, ttl_ms, max_attempts, worker, num_workers.
BEGIN = with_prelude("""
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
local state = get(id, 'state')
if not state then return {'gone', 0} end
if is_final(state) or state == 'cancelling' then return {'stopped', 0} end
local index = string.match(task, '^segment:(%d+)$')
if index and redis.call('HEXISTS', key_job_segments(id), index) == 1 then return {'done', 0} end
-- Of a plan that is forgotten.
if index and tonumber(index) >= tonumber(get(id, 'num_segments')) then return {'done', 0} end
if task == 'plan' and get(id, 'is_planned') == '1' then return {'done', 0} end
if (task == 'fetch') ~= (get(id, 'stage') == 'fetching') then return {'done', 0} end
local now = now_ms()
local lease = redis.call('HGET', key_job_leases(id), task)
if lease then
  local left = tonumber(string.match(lease, ' (%d+)$')) - now
  if string.match(lease, '^(%S+)') == token then
    return {'ok', tonumber(redis.call('HGET', key_job_attempts(id), task))}
  end
  if left > 0 then return {'busy', left} end
end
if redis.call('HGET', key_job_failed_on(id), task) == ARGV[6] and tonumber(ARGV[7]) > 1 then
  -- "how often, by whose call the last time"
  local handed_on = redis.call('HGET', key_job_handed_on(id), task) or '0 '
  local count, last = string.match(handed_on, '^(%d+) (.*)$')
  if last ~= token then
    count = count + 1
    redis.call('HSET', key_job_handed_on(id), task, count .. ' ' .. token)
  end
  if tonumber(count) <= 10 then return {'elsewhere', 1000} end
end
local made = tonumber(redis.call('HGET', key_job_attempts(id), task) or '0')
if made >= tonumber(ARGV[5]) then return {'exhausted', made} end
local attempt = redis.call('HINCRBY', key_job_attempts(id), task, 1)
redis.call('HSET', key_job_leases(id), task, token .. ' ' .. (now + tonumber(ARGV[4])))
redis.call('HDEL', key_job_announced(id), task)
if task == 'plan' then redis.call('HDEL', key_job(id), 'planning_asked') end
if attempt > tonumber(get(id, 'attempts')) then redis.call('HSET', key_job(id), 'attempts', attempt) end
if task == 'fetch' then return {'ok', attempt} end
if not get(id, 'started_at') then redis.call('HSET', key_job(id), 'started_at', now) end
local stage = index and 'upscaling' or (task == 'join' and 'joining' or 'planning')
local before = get(id, 'stage')
if not (stage == 'planning' and before == 'upscaling') then
  redis.call('HSET', key_job(id), 'stage', stage)
end
if index and not get(id, 'upscaling_started_at') then
  redis.call('HSET', key_job(id), 'upscaling_started_at', now)
end
if state == 'queued' then set_state(id, 'in_progress')
elseif before ~= get(id, 'stage') then touch(id); emit(id, 'status') end
return {'ok', attempt}
""")

# ARGV: id, task, token, ttl_ms, frames of this attempt or -1, is_stopping: whether its worker has been told
# to stop. From then on the attempt does not count, unless it still fails by itself: the worker may be killed
# before it can say anything more. Returns what the attempt should do.
RENEW = with_prelude("""
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
local state = get(id, 'state')
if not state or is_final(state) or state == 'cancelling' then return 'stopped' end
if not holds(id, task, token) then return 'lost' end
local now = now_ms()
redis.call('HSET', key_job_leases(id), task, token .. ' ' .. (now + tonumber(ARGV[4])))
if ARGV[6] == '1' and redis.call('HGET', key_job_announced(id), task) ~= token then
  redis.call('HSET', key_job_announced(id), task, token)
  uncount(id, task)
end
if tonumber(ARGV[5]) >= 0 then
  local before = get(id, 'processed_frames')
  redis.call('HSET', key_job_partial(id), task, ARGV[5])
  if tostring(count_frames(id)) ~= before then
    touch(id)
    if now - tonumber(get(id, 'progress_event_at') or '0') >= 500 then
      redis.call('HSET', key_job(id), 'progress_event_at', now)
      emit(id, 'progress')
    end
  end
end
return 'ok'
""")

# ARGV: id, task, token, how: "finished", "failed" (counts as an attempt) or "drained" (does not), worker,
# ttl_ms.
END = with_prelude("""
local id, task, token, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state = get(id, 'state')
if not state then return 'gone' end
if not holds(id, task, token) then return 'lost' end
redis.call('HDEL', key_job_leases(id), task)
redis.call('HDEL', key_job_partial(id), task)
count_frames(id)
local is_uncounted = redis.call('HDEL', key_job_announced(id), task) == 1
if how == 'finished' then redis.call('HDEL', key_job_attempts(id), task) end
if how == 'drained' and not is_uncounted then uncount(id, task) end
if how == 'failed' then
  redis.call('HSET', key_job_failed_on(id), task, ARGV[5])
  if is_uncounted then redis.call('HINCRBY', key_job_attempts(id), task, 1) end
end
if state == 'cancelling' and live_leases(id, '') == 0 then
  set_state(id, 'cancelled')
  expire_after(id, tonumber(ARGV[6]))
end
return 'ok'
""")

# ARGV: id, task, token, name, value, name, value, ... Fields that an attempt may set while it holds its
# lease.
SET_FIELDS = with_prelude("""
local id, task, token = ARGV[1], ARGV[2], ARGV[3]
if not get(id, 'state') then return 'gone' end
if not holds(id, task, token) then return 'lost' end
local is_changed = false
for i = 4, #ARGV, 2 do
  local before = get(id, ARGV[i])
  if ARGV[i] == 'warnings' then add_warnings(id, ARGV[i + 1])
  else redis.call('HSET', key_job(id), ARGV[i], ARGV[i + 1]) end
  is_changed = is_changed or get(id, ARGV[i]) ~= before
end
if is_changed then touch(id) end
return 'ok'
""")

# ARGV: id, token, what the probe found, frames or '', warnings, max_stored_bytes, spec. The job's source is
# there: it can be planned.
FETCHED = with_prelude("""
local id, token = ARGV[1], ARGV[2]
local state = get(id, 'state')
if not state then return 'gone' end
if get(id, 'input') == ARGV[3] then return 'ok' end
if state ~= 'queued' then return 'stopped' end
if not holds(id, 'fetch', token) then return 'lost' end
local owner, bytes = get(id, 'owner'), cjson.decode(ARGV[3]).size_bytes
if not fits_stored(owner, id, bytes, tonumber(ARGV[6])) then return 'stored_full' end
set_stored(owner, id, bytes)
redis.call('HDEL', key_job_leases(id), 'fetch')
redis.call('HDEL', key_job_attempts(id), 'fetch')
redis.call('HDEL', key_job(id), 'stage')
redis.call('HSET', key_job(id), 'input', ARGV[3], 'spec', ARGV[7])
if ARGV[4] ~= '' then redis.call('HSET', key_job(id), 'total_frames', ARGV[4]) end
add_warnings(id, ARGV[5])
touch(id)
emit(id, 'status')
return 'ok'
""")
