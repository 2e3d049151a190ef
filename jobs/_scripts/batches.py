"""Batches, as scripts: they are made with their inputs, each of these is decided, and they are settled."""

from __future__ import annotations

from jobs.clock import LUA_NOW_MS
from jobs.keys import with_keys

# KEYS: record, inputs, decided, rejected, batches of an owner, active, expiring. ARGV: spec, id, active_until
# in ms, number of inputs, the inputs, then index and rejection by turns. Files and uploads are noted as
# used, or they would be swept while the batch waits.
CREATE = with_keys(
    """
local spec = redis.call('HGET', KEYS[1], 'spec')
if spec then return spec == ARGV[1] and 1 or 0 end
redis.call('HSET', KEYS[1], 'spec', ARGV[1])
local last = 4 + tonumber(ARGV[4])
for i = 5, last do
  redis.call('RPUSH', KEYS[2], ARGV[i])
  local input = cjson.decode(ARGV[i])
  if input.source == cjson.null then
    redis.call('SADD', key_input_users('jobs/' .. input.job_id .. '/input'), input.job_id)
  elseif input.source.type == 'upload' then
    redis.call('SADD', key_input_users('uploads/' .. input.source.upload_id), input.job_id)
  end
end
for i = last + 1, #ARGV, 2 do
  redis.call('SADD', KEYS[3], ARGV[i])
  redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
end
redis.call('ZADD', KEYS[5], 0, ARGV[2])
redis.call('ZADD', KEYS[6], 0, ARGV[2])
redis.call('ZADD', KEYS[7], ARGV[3], ARGV[2])
return 1
"""
)
# KEYS: record, decided, rejected, users of the input's object. ARGV: index, rejection or empty, job's id. A
# deleted batch is not brought back.
DECIDE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
  redis.call('SREM', KEYS[4], ARGV[3])
end
return 1
"""
# KEYS: record. ARGV: name, and the value, or nothing for the time in ms.
SET_ONCE = (
    LUA_NOW_MS
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2] or now_ms())
return redis.call('HGET', KEYS[1], ARGV[1])
"""
)
# KEYS: record, active, expiring. ARGV: id, ttl in ms.
SETTLE = (
    LUA_NOW_MS
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local at = now_ms() + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'expires_at', at)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], at, ARGV[1])
return 1
"""
)
# KEYS: record. ARGV: position.
MOVE_CURSOR = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'cursor', ARGV[1]) end"
