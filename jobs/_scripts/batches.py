"""Batches, as scripts: they are made with their inputs, and each of these is decided."""

from __future__ import annotations

from jobs.keys import with_keys

# ARGV: id, owner, spec, active_until in ms, number of inputs, the inputs, then index and rejection by turns.
# Files and uploads are noted as used, or they would be swept while the batch waits.
CREATE = with_keys("""
local id, owner = ARGV[1], ARGV[2]
local spec = redis.call('HGET', key_batch(id), 'spec')
if spec then return spec == ARGV[3] and 1 or 0 end
redis.call('HSET', key_batch(id), 'spec', ARGV[3])
local last = 5 + tonumber(ARGV[5])
for i = 6, last do
  redis.call('RPUSH', key_batch_inputs(id), ARGV[i])
  local input = cjson.decode(ARGV[i])
  if input.source == cjson.null then
    redis.call('SADD', key_input_users('jobs/' .. input.job_id .. '/input'), input.job_id)
  elseif input.source.type == 'upload' then
    redis.call('SADD', key_input_users('uploads/' .. input.source.upload_id), input.job_id)
  end
end
for i = last + 1, #ARGV, 2 do
  redis.call('SADD', key_batch_decided(id), ARGV[i])
  redis.call('HSET', key_batch_rejected(id), ARGV[i], ARGV[i + 1])
end
redis.call('ZADD', key_batches_of(owner), 0, id)
redis.call('ZADD', key_batches_active(), 0, id)
redis.call('ZADD', key_batches_expiring(), ARGV[4], id)
return 1
""")

# ARGV: id, index, rejection or empty, the input's object, its job's id. A deleted batch is not brought back.
DECIDE = with_keys("""
local id = ARGV[1]
if redis.call('EXISTS', key_batch(id)) == 0 then return end
redis.call('SADD', key_batch_decided(id), ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', key_batch_rejected(id), ARGV[2], ARGV[3])
  redis.call('SREM', key_input_users(ARGV[4]), ARGV[5])
end
""")
