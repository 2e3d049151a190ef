"""Resumable uploads, as scripts. Writers act only while they hold the lock: one that was thought dead, and is
not, must not move the offset of its successor."""

from __future__ import annotations

from jobs._scripts.stored import STORED
from jobs.clock import LUA_NOW_MS
from jobs.keys import with_keys

# KEYS: record, expiring, unfinished. ARGV: id, owner, size, expires_at in ms, limit of unfinished ones, limit
# of bytes, then fields of the record. Returns a word and a number.
CREATE = with_keys(
    STORED
    + """
local id, owner, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 1 then return {'ok', 0} end
local unfinished, most = redis.call('SCARD', KEYS[3]), tonumber(ARGV[5])
if most > 0 and unfinished >= most then return {'uploads_full', unfinished} end
if not fits_stored(owner, id, size, tonumber(ARGV[6])) then
  return {'stored_full', stored_bytes(owner, 'sum')}
end
set_stored(owner, id, size)
for i = 7, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'payer', owner)
redis.call('ZADD', KEYS[2], ARGV[4], id)
redis.call('SADD', KEYS[3], id)
return {'ok', 0}
"""
)
# KEYS: record, lock, parts. ARGV: token, offset, then fields of the parts.
ADVANCE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'offset', ARGV[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
return 1
"""
# KEYS: record, lock, expiring, parts. ARGV: token, id, found, ttl in ms.
FINISH = with_keys(
    LUA_NOW_MS
    + """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local at = now_ms() + tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'offset', redis.call('HGET', KEYS[1], 'size'), 'found', ARGV[3],
  'expires_at', at)
redis.call('ZADD', KEYS[3], at, ARGV[2])
redis.call('DEL', KEYS[4])
redis.call('SREM', key_uploads_unfinished(redis.call('HGET', KEYS[1], 'owner')), ARGV[2])
return 1
"""
)
# KEYS: record. ARGV: owner.
DISOWN = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'owner', ARGV[1]) end"
# KEYS: record, expiring. ARGV: id, ttl in ms.
POSTPONE = (
    LUA_NOW_MS
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local at = now_ms() + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'expires_at', at)
return redis.call('ZADD', KEYS[2], at, ARGV[1])
"""
)
# KEYS: record, lock, expiring, jobs that read it, parts. ARGV: id, only_expired. A job is made only while the
# record is there (`jobs._scripts.lifecycle`), so none can be left without its input. What it took counts no
# more, whoever owns it now.
REMOVE = with_keys(
    LUA_NOW_MS
    + STORED
    + """
if redis.call('SCARD', KEYS[4]) > 0 then return 'used' end
local at = redis.call('HGET', KEYS[1], 'expires_at')
if ARGV[2] == '1' and at and tonumber(at) > now_ms() then return 'kept' end
local payer = redis.call('HGET', KEYS[1], 'payer')
if payer then
  set_stored(payer, ARGV[1], 0)
  redis.call('SREM', key_uploads_unfinished(payer), ARGV[1])
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[5])
redis.call('ZREM', KEYS[3], ARGV[1])
return 'removed'
"""
)
