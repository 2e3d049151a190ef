"""Resumable uploads, as scripts. Writers act only while they hold the lock: one that was thought dead, and is
not, must not move the offset of its successor."""

from __future__ import annotations

from jobs._scripts.stored import STORED
from jobs.clock import LUA_NOW_MS
from jobs.keys import with_keys

# ARGV: id, owner, size, expires_at in ms, limit of unfinished ones, limit of bytes, then fields of the
# record. Returns a word and a number.
CREATE = with_keys(
    STORED
    + """
local id, owner, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', key_upload(id)) == 1 then return {'ok', 0} end
local unfinished, most = redis.call('SCARD', key_uploads_unfinished(owner)), tonumber(ARGV[5])
if most > 0 and unfinished >= most then return {'uploads_full', unfinished} end
if not fits_stored(owner, id, size, tonumber(ARGV[6])) then
  return {'stored_full', stored_bytes(owner, 'sum')}
end
set_stored(owner, id, size)
for i = 7, #ARGV, 2 do redis.call('HSET', key_upload(id), ARGV[i], ARGV[i + 1]) end
redis.call('HSET', key_upload(id), 'payer', owner)
redis.call('ZADD', key_uploads_expiring(), ARGV[4], id)
redis.call('SADD', key_uploads_unfinished(owner), id)
return {'ok', 0}
"""
)

_HOLDS = """
local id = ARGV[1]
local function holds()
  return redis.call('GET', key_upload_lock(id)) == ARGV[2] and redis.call('EXISTS', key_upload(id)) == 1
end
"""

# ARGV: id, token, offset, then fields of the parts.
ADVANCE = with_keys(
    _HOLDS
    + """
if not holds() then return 0 end
redis.call('HSET', key_upload(id), 'offset', ARGV[3])
for i = 4, #ARGV, 2 do redis.call('HSET', key_upload_parts(id), ARGV[i], ARGV[i + 1]) end
return 1
"""
)

# ARGV: id, token, found, ttl in ms.
FINISH = with_keys(
    _HOLDS
    + LUA_NOW_MS
    + """
if not holds() then return 0 end
local at = now_ms() + tonumber(ARGV[4])
redis.call('HSET', key_upload(id), 'offset', redis.call('HGET', key_upload(id), 'size'), 'found', ARGV[3],
  'expires_at', at)
redis.call('ZADD', key_uploads_expiring(), at, id)
redis.call('DEL', key_upload_parts(id))
redis.call('SREM', key_uploads_unfinished(redis.call('HGET', key_upload(id), 'owner')), id)
return 1
"""
)

# ARGV: id, only_expired, key of its object. A job is made only while the record is there
# (`jobs._scripts.lifecycle`), so none can be left without its input. What it took counts no more, whoever
# owns it now.
REMOVE = with_keys(
    LUA_NOW_MS
    + STORED
    + """
local id = ARGV[1]
if redis.call('SCARD', key_input_users(ARGV[3])) > 0 then return 'used' end
local at = redis.call('HGET', key_upload(id), 'expires_at')
if ARGV[2] == '1' and at and tonumber(at) > now_ms() then return 'kept' end
local payer = redis.call('HGET', key_upload(id), 'payer')
if payer then
  set_stored(payer, id, 0)
  redis.call('SREM', key_uploads_unfinished(payer), id)
end
redis.call('DEL', key_upload(id), key_upload_lock(id), key_upload_parts(id))
redis.call('ZREM', key_uploads_expiring(), id)
return 'removed'
"""
)
