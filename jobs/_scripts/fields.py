"""Fields of batches and uploads, as scripts. A record that is gone is not brought back."""

from __future__ import annotations

from jobs.clock import LUA_NOW_MS

# ARGV: the record's key, field, value.
SET = "if redis.call('EXISTS', ARGV[1]) == 1 then redis.call('HSET', ARGV[1], ARGV[2], ARGV[3]) end"

# ARGV: the record's key, field. Returns when this was called first for the field, in ms; nothing if the
# record is gone.
STAMP = (
    LUA_NOW_MS
    + """
if redis.call('EXISTS', ARGV[1]) == 0 then return false end
redis.call('HSETNX', ARGV[1], ARGV[2], now_ms())
return redis.call('HGET', ARGV[1], ARGV[2])
"""
)

# ARGV: the record's key, index of those that expire, id, ttl in ms from now.
EXPIRE = (
    LUA_NOW_MS
    + """
if redis.call('EXISTS', ARGV[1]) == 0 then return end
local at = now_ms() + tonumber(ARGV[4])
redis.call('HSET', ARGV[1], 'expires_at', at)
redis.call('ZADD', ARGV[2], at, ARGV[3])
"""
)
