"""Uploads, as scripts: they are made, written to by one at a time, finished, deleted."""

from __future__ import annotations

from jobs._scripts.stored import STORED

# KEYS: record, expiring, unfinished. ARGV: id, owner, size, expires_at in ms, limit of unfinished ones, limit
# of bytes, then fields of the record. Returns a word and a number.
CREATE = (
    STORED
    + """
local id, owner, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
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
# KEYS: record, lock, expiring. ARGV: id. What it took counts no more, whoever owns it now.
DELETE = (
    STORED
    + """
local payer = redis.call('HGET', KEYS[1], 'payer')
if payer then
  set_stored(payer, ARGV[1], 0)
  redis.call('SREM', 'dv:uploads:unfinished:' .. payer, ARGV[1])
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
"""
)
# All of these act only for the writer that holds the lock: one that was thought dead, and is not, must not
# move the offset of its successor.
# KEYS: record, lock. ARGV: token, offset.
ADVANCE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'offset', ARGV[2])
return 1
"""
# KEYS: record, lock, expiring. ARGV: token, id, found, expires_at in ms.
FINISH = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'offset', redis.call('HGET', KEYS[1], 'size'), 'found', ARGV[3],
  'expires_at', ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
redis.call('SREM', 'dv:uploads:unfinished:' .. redis.call('HGET', KEYS[1], 'owner'), ARGV[2])
return 1
"""
# KEYS: record. ARGV: owner.
DISOWN = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'owner', ARGV[1]) end"
# KEYS: record, expiring. ARGV: id, expires_at in ms.
POSTPONE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'expires_at', ARGV[2])
return redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
"""
# KEYS: lock. ARGV: token, ttl in ms.
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
# KEYS: lock. ARGV: token.
UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
