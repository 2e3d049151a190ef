"""A job as a whole, as scripts: it is made, ends well or badly, is cancelled, tried again, deleted."""

from __future__ import annotations

from jobs._scripts.prelude import with_prelude

# ARGV: id, owner, priority, batch_id, max_waiting, max_of_owner, has_webhook, total_frames, spec, warnings,
# labels as a JSON list of "name:value", max_stored_bytes.
CREATE = with_prelude("""
local id, owner, priority, batch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if get(id, 'spec') == ARGV[9] and get(id, 'owner') == owner and get(id, 'priority') == priority then
  return {'ok', 0}
end
if redis.call('EXISTS', key_job(id)) == 1 then return {'exists', 0} end
local input_key = cjson.decode(ARGV[9]).input_key
local upload = string.match(input_key, '^uploads/(.+)$')
if upload and redis.call('EXISTS', key_upload(upload)) == 0 then return {'input_gone', 0} end
local refusal = refuse_another(owner, tonumber(ARGV[5]), tonumber(ARGV[6]))
if refusal then return refusal end
redis.call('HSET', key_job(id), 'spec', ARGV[9])
local bytes = input_bytes(id)
if bytes > 0 and not fits_stored(owner, id, bytes, tonumber(ARGV[12])) then
  redis.call('DEL', key_job(id))
  return {'stored_full', stored_bytes(owner, 'sum')}
end
set_stored(owner, id, bytes)
local now = now_ms()
redis.call('HSET', key_job(id), 'owner', owner, 'priority', priority, 'state', 'queued', 'version', 1,
  'updated_at', now, 'done_frames', 0, 'processed_frames', 0, 'num_segments', 0, 'num_finished', 0,
  'next_segment', 0, 'is_planned', 0, 'attempts', 0)
if batch ~= '' then redis.call('HSET', key_job(id), 'batch_id', batch) end
if ARGV[7] == '1' then redis.call('HSET', key_job(id), 'has_webhook', 1) end
if ARGV[11] ~= '[]' then redis.call('HSET', key_job(id), 'labels', ARGV[11]) end
if ARGV[8] ~= '' then redis.call('HSET', key_job(id), 'total_frames', ARGV[8]) end
if not cjson.decode(ARGV[9]).input then redis.call('HSET', key_job(id), 'stage', 'fetching') end
add_warnings(id, ARGV[10])
if upload then redis.call('SADD', key_input_users(input_key), id)
-- It was its batch's, and is named by its record from now on.
elseif batch ~= '' then redis.call('SREM', key_input_users(input_key), id) end
redis.call('ZADD', key_jobs_of(owner), 0, id)
redis.call('ZADD', key_jobs_in_state(owner, 'queued'), 0, id)
for _, label in ipairs(cjson.decode(ARGV[11])) do
  redis.call('ZADD', key_jobs_labelled(owner, label), 0, id)
end
if batch ~= '' and redis.call('EXISTS', key_batch(batch)) == 1 then
  redis.call('ZADD', key_batch_jobs(batch), 0, id)
  count_in_batch(batch, 'queued', 1)
end
redis.call('HINCRBY', key_counts(), 'queued', 1)
redis.call('ZADD', key_waiting(priority), now, id)
redis.call('ZADD', key_active(), 0, id)
emit(id, 'status')
return {'ok', 0}
""")

# ARGV: id, token, output, ttl_ms, warnings.
COMPLETE = with_prelude("""
local id, token = ARGV[1], ARGV[2]
local state = get(id, 'state')
if not state then return 'gone' end
if state == 'completed' and get(id, 'output') == ARGV[3] then return 'ok' end
if state ~= 'in_progress' then return 'stopped' end
if not holds(id, 'join', token) then return 'lost' end
redis.call('HDEL', key_job_leases(id), 'join')
redis.call('HSET', key_job(id), 'output', ARGV[3])
add_warnings(id, ARGV[5])
expire_after(id, tonumber(ARGV[4]))
local deliver_to = cjson.decode(get(id, 'spec')).deliver_to
if deliver_to then ask_delivery(id, deliver_to) end
-- Its segments are removed soon.
set_stored(get(id, 'owner'), id, input_bytes(id) + cjson.decode(ARGV[3]).size_bytes)
set_state(id, 'completed')
-- What only workers and those who play segments need; these have a list of them in the storage.
redis.call('HDEL', key_job(id), 'done_frames', 'next_segment', 'planning_asked',
  'progress_event_at', 'stream')
local run = cjson.decode(get(id, 'run') or '{}')
if run.description_key then
  run.description_key = nil
  redis.call('HSET', key_job(id), 'run', cjson.encode(run))
end
redis.call('DEL', key_job_segments(id), key_job_plan(id), key_job_attempts(id), key_job_leases(id),
  key_job_announced(id), key_job_failed_on(id), key_job_handed_on(id))
return 'ok'
""")

# ARGV: id, error, ttl_ms, warning, task and token of the attempt or '', call. Running attempts of other tasks
# find out when they renew. A job that another version has planned is planned anew, once, with the warning.
FAIL = with_prelude("""
return once(ARGV[7], function()
  local id, task = ARGV[1], ARGV[5]
  local state = get(id, 'state')
  if not state then return 'gone' end
  if is_final(state) then return 'stopped' end
  if task ~= '' and not holds(id, task, ARGV[6]) then return 'lost' end
  local code = cjson.decode(ARGV[2]).code
  if state == 'cancelling' then set_state(id, 'cancelled')
  elseif code == 'job_mismatch' and redis.call('HSETNX', key_job(id), 'planned_anew', 1) == 1 then
    forget_plan(id)
    add_warnings(id, ARGV[4])
    queue_again(id)
    return 'anew'
  else
    redis.call('HSET', key_job(id), 'error', ARGV[2])
    redis.call('HINCRBY', key_failures(), code, 1)
    set_state(id, 'failed')
  end
  expire_after(id, tonumber(ARGV[3]))
  return 'ok'
end)
""")

# ARGV: id, ttl_ms, call.
CANCEL = with_prelude("""
return once(ARGV[3], function()
  local id = ARGV[1]
  local state = get(id, 'state')
  if not state then return 'gone' end
  if state == 'cancelled' then return 'ok' end
  if is_final(state) then return state end
  if live_leases(id, '') == 0 then
    set_state(id, 'cancelled')
    expire_after(id, tonumber(ARGV[2]))
  elseif state ~= 'cancelling' then
    set_state(id, 'cancelling')
  end
  return 'ok'
end)
""")

# ARGV: id, max_waiting, max_of_owner, max_stored_bytes, call. Returns a word and a number.
RETRY = with_prelude("""
return once(ARGV[5], function()
  local id = ARGV[1]
  local state, owner = get(id, 'state'), get(id, 'owner')
  if not state then return {'gone', 0} end
  if state == 'queued' or state == 'in_progress' then return {'ok', 0} end
  if state ~= 'failed' and state ~= 'cancelled' then return {state, 0} end
  local refusal = refuse_another(owner, tonumber(ARGV[2]), tonumber(ARGV[3]))
  if refusal then return refusal end
  if not fits_stored(owner, id, stored_bytes(owner, id), tonumber(ARGV[4])) then
    return {'stored_full', stored_bytes(owner, 'sum')}
  end
  -- What another version has planned would fail again.
  if cjson.decode(get(id, 'error') or '{}').code == 'job_mismatch' then forget_plan(id) end
  redis.call('HDEL', key_job(id), 'error', 'completed_at', 'expires_at', 'planned_anew')
  redis.call('ZREM', key_expiring(), id)
  queue_again(id)
  return {'ok', 0}
end)
""")

# ARGV: id, only_expired: whether to leave it alone unless its time is over, also if it was when somebody
# looked: it may have been tried again since; call.
DELETE = with_prelude("""
return once(ARGV[3], function()
  local id = ARGV[1]
  local state, owner = get(id, 'state'), get(id, 'owner')
  if not state then
    redis.call('ZREM', key_expiring(), id)
    return 0
  end
  if ARGV[2] == '1' then
    local at = redis.call('ZSCORE', key_expiring(), id)
    if not at or tonumber(at) > now_ms() or not is_final(state) then return 0 end
  end
  set_stored(owner, id, 0)
  redis.call('ZREM', key_jobs_of(owner), id)
  redis.call('ZREM', key_jobs_in_state(owner, state), id)
  for _, label in ipairs(cjson.decode(get(id, 'labels') or '[]')) do
    redis.call('ZREM', key_jobs_labelled(owner, label), id)
  end
  redis.call('HINCRBY', key_counts(), state, -1)
  redis.call('SREM', key_input_users(cjson.decode(get(id, 'spec')).input_key), id)
  local batch = get(id, 'batch_id')
  if batch and batch ~= '' then
    redis.call('ZREM', key_batch_jobs(batch), id)
  end
  count_in_batch(batch, state, -1)
  count_in_batch(batch, 'deleted', 1)
  redis.call('ZREM', key_waiting(get(id, 'priority')), id)
  redis.call('ZREM', key_active(), id)
  redis.call('ZREM', key_expiring(), id)
  redis.call('ZREM', key_result_deliveries(), id)
  emit(id, 'deleted')
  redis.call('EXPIRE', key_events(id), 60)
  redis.call('DEL', key_job(id), key_job_segments(id), key_job_plan(id), key_job_partial(id),
    key_job_attempts(id), key_job_enqueued(id), key_job_leases(id), key_job_announced(id),
    key_job_failed_on(id), key_job_handed_on(id))
  return 1
end)
""")
