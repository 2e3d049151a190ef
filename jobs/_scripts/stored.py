"""What a customer's objects take, as functions of scripts: one hash per owner, bytes by job or upload and
their sum. Naming the same thing twice changes nothing, so whoever is killed may count again."""

from __future__ import annotations

from jobs.keys import with_keys

STORED = """
local function stored_bytes(owner, name)
  return tonumber(redis.call('HGET', key_stored(owner), name) or '0')
end
local function set_stored(owner, name, bytes)
  local key = key_stored(owner)
  local change = bytes - stored_bytes(owner, name)
  if bytes == 0 then redis.call('HDEL', key, name) else redis.call('HSET', key, name, bytes) end
  if redis.call('HINCRBY', key, 'sum', change) == 0 then redis.call('DEL', key) end
end
-- Whether that name may take so many bytes; a limit of 0 is none.
local function fits_stored(owner, name, bytes, limit)
  return limit == 0 or stored_bytes(owner, 'sum') - stored_bytes(owner, name) + bytes <= limit
end
"""

# ARGV: owner, limit, then name and bytes of each. Returns the bytes before, or -1 where all are counted now.
STORE = with_keys(
    STORED
    + """
local sum, limit = stored_bytes(ARGV[1], 'sum'), tonumber(ARGV[2])
local after = sum
for i = 3, #ARGV, 2 do after = after - stored_bytes(ARGV[1], ARGV[i]) + tonumber(ARGV[i + 1]) end
if limit > 0 and after > sum and after > limit then return sum end
for i = 3, #ARGV, 2 do set_stored(ARGV[1], ARGV[i], tonumber(ARGV[i + 1])) end
return -1
"""
)
"""A script of its own."""
