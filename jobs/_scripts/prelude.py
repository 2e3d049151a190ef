"""What all scripts begin with: functions on a job's record, its leases, its events and its state.

Leases live in one hash per job (task -> "token expiry_ms"): an attempt may write as long as the hash still
names its token, even after the expiry, because nobody has taken over; so a paused process never loses work
that nobody else has begun, and never overwrites another one's.

`once` keeps the answer to a call, a random name that its client gives it, for longer than the client sends it
again.

Keys are derived from the job's id inside the scripts (`jobs.keys`), so the store needs one Redis server, not
a cluster.
"""

from __future__ import annotations

from jobs._scripts.stored import STORED
from jobs.clock import LUA_NOW_MS
from jobs.keys import with_keys

_PRELUDE = (
    LUA_NOW_MS
    + STORED
    + """
local function get(id, field) return redis.call('HGET', key_job(id), field) end
local function touch(id)
  redis.call('HINCRBY', key_job(id), 'version', 1)
  redis.call('HSET', key_job(id), 'updated_at', now_ms())
end
local function emit(id, kind, detail)
  local key = key_events(id)
  redis.call('XADD', key, 'MAXLEN', '~', 512, '*', 'type', kind, 'detail', detail or '{}')
  redis.call('PUBLISH', key, '')
end
local function live_leases(id, except)
  local found, now = 0, now_ms()
  local all = redis.call('HGETALL', key_job_leases(id))
  for i = 1, #all, 2 do
    local expiry = tonumber(string.match(all[i + 1], ' (%d+)$'))
    if all[i] ~= except and expiry > now then found = found + 1 end
  end
  return found
end
local function is_leased(id, task)
  local lease = redis.call('HGET', key_job_leases(id), task)
  return lease and tonumber(string.match(lease, ' (%d+)$')) > now_ms()
end
local function holds(id, task, token)
  local lease = redis.call('HGET', key_job_leases(id), task)
  return lease and string.match(lease, '^(%S+)') == token
end
local function count_in_batch(batch, name, change)
  -- A job may outlive its batch, and must not bring a part of it back.
  if batch and batch ~= '' and redis.call('EXISTS', key_batch(batch)) == 1 then
    redis.call('HINCRBY', key_batch_counts(batch), name, change)
  end
end
local function uncount(id, task)
  if tonumber(redis.call('HGET', key_job_attempts(id), task) or '0') > 0 then
    redis.call('HINCRBY', key_job_attempts(id), task, -1)
  end
end
local function is_final(state) return state == 'completed' or state == 'failed' or state == 'cancelled' end
local function set_state(id, new)
  local old, owner, priority = get(id, 'state'), get(id, 'owner'), get(id, 'priority')
  redis.call('HSET', key_job(id), 'state', new)
  redis.call('ZREM', key_jobs_in_state(owner, old), id)
  redis.call('ZADD', key_jobs_in_state(owner, new), 0, id)
  redis.call('HINCRBY', key_counts(), old, -1)
  redis.call('HINCRBY', key_counts(), new, 1)
  if new ~= 'queued' then redis.call('ZREM', key_waiting(priority), id) end
  local batch = get(id, 'batch_id')
  count_in_batch(batch, old, -1)
  count_in_batch(batch, new, 1)
  if is_final(new) then
    redis.call('ZREM', key_active(), id)
    redis.call('HSET', key_job(id), 'completed_at', now_ms())
    redis.call('HINCRBY', key_finished(), new, 1)
    redis.call('DEL', key_job_partial(id), key_job_enqueued(id))
    redis.call('HDEL', key_job(id), 'stage')
    if get(id, 'has_webhook') == '1' or (batch and batch ~= '') then
      redis.call('ZADD', key_webhooks_pending(), now_ms(), id .. ' ' .. new)
    end
  else
    redis.call('ZADD', key_active(), 0, id)
    if new == 'in_progress' and get(id, 'has_webhook') == '1' then
      redis.call('ZADD', key_webhooks_pending(), now_ms(), id .. ' ' .. new)
    end
  end
  touch(id)
  emit(id, is_final(new) and new or 'status')
  -- Whoever comes later sees the end in the record.
  if is_final(new) then redis.call('EXPIRE', key_events(id), 60)
  elseif is_final(old) then redis.call('PERSIST', key_events(id)) end
end
local function expire_after(id, ttl_ms)
  local at = now_ms() + ttl_ms
  redis.call('HSET', key_job(id), 'expires_at', at)
  redis.call('ZADD', key_expiring(), at, id)
end
local function count_frames(id)
  local sum = tonumber(get(id, 'done_frames') or '0')
  for _, value in ipairs(redis.call('HVALS', key_job_partial(id))) do sum = sum + tonumber(value) end
  redis.call('HSET', key_job(id), 'processed_frames', sum)
  return sum
end
-- Why an owner may not have one more job under way; nil if they may.
local function refuse_another(owner, max_waiting, max_of_owner)
  local waiting = 0
  for _, name in ipairs({'high', 'normal', 'low'}) do
    waiting = waiting + redis.call('ZCARD', key_waiting(name))
  end
  if max_waiting > 0 and waiting >= max_waiting then return {'queue_full', waiting} end
  local unfinished = 0
  for _, name in ipairs({'queued', 'in_progress', 'cancelling'}) do
    unfinished = unfinished + redis.call('ZCARD', key_jobs_in_state(owner, name))
  end
  if max_of_owner > 0 and unfinished >= max_of_owner then return {'owner_full', unfinished} end
end
-- A job's own input; that of an upload counts with the upload.
local function input_bytes(id)
  local spec = cjson.decode(get(id, 'spec'))
  if string.sub(spec.input_key, 1, 8) == 'uploads/' then return 0 end
  if spec.input then return spec.input.size_bytes end
  -- Of an address, as far as it has been fetched.
  return cjson.decode(get(id, 'input') or '{"size_bytes": 0}').size_bytes
end
local function ask_delivery(id, url)
  local now = now_ms()
  local asked = {url = url, status = 'pending', attempts = 0, asked_ms = now}
  redis.call('HSET', key_job(id), 'delivery', cjson.encode(asked))
  redis.call('ZADD', key_result_deliveries(), now, id)
end
local function add_warnings(id, list)
  local have = cjson.decode(get(id, 'warnings') or '[]')
  local seen = {}
  for _, text in ipairs(have) do seen[text] = true end
  for _, text in ipairs(cjson.decode(list)) do
    if not seen[text] and #have < 100 then have[#have + 1] = text; seen[text] = true end
  end
  if #have > 0 then redis.call('HSET', key_job(id), 'warnings', cjson.encode(have)) end
end
-- The files of its segments are the sweeper's from then on.
local function forget_plan(id)
  redis.call('DEL', key_job_plan(id), key_job_segments(id))
  redis.call('HDEL', key_job(id), 'run', 'stream')
  redis.call('HSET', key_job(id), 'done_frames', 0, 'num_segments', 0, 'num_finished', 0, 'is_planned', 0)
  set_stored(get(id, 'owner'), id, input_bytes(id))
end
local function queue_again(id)
  redis.call('HDEL', key_job(id), 'started_at', 'upscaling_started_at', 'planning_asked', 'stage')
  redis.call('DEL', key_job_attempts(id), key_job_failed_on(id), key_job_handed_on(id), key_job_leases(id),
    key_job_announced(id), key_job_partial(id), key_job_enqueued(id))
  redis.call('HSET', key_job(id), 'next_segment', 0, 'attempts', 0)
  count_frames(id)
  if not cjson.decode(get(id, 'spec')).input and not get(id, 'input') then
    redis.call('HSET', key_job(id), 'stage', 'fetching')
  end
  set_state(id, 'queued')
  redis.call('ZADD', key_waiting(get(id, 'priority')), now_ms(), id)
end
local function once(call, act)
  local key = key_answers(call)
  local before = redis.call('GET', key)
  if before then return cjson.decode(before)[1] end
  local answer = act()
  redis.call('SET', key, cjson.encode({answer}), 'EX', 600)
  return answer
end
"""
)


def with_prelude(script: str) -> str:
    """A script that may use these functions."""
    return with_keys(_PRELUDE + script)
