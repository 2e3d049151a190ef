"""Deliveries of results, as scripts. Beside the record of its job, a delivery that is not over is in
`dv:deliveries` by the time at which somebody should see whether it has a message in the queue."""

from __future__ import annotations

from jobs._scripts.prelude import with_prelude

# ARGV: id, address, call. Returns the job's state unless it is completed. Begins anew what was under way.
ASK_DELIVERY = with_prelude("""
return once(ARGV[3], function()
  local id = ARGV[1]
  local state = get(id, 'state')
  if not state then return 'gone' end
  if state ~= 'completed' then return state end
  ask_delivery(id, ARGV[2])
  touch(id)
  return 'ok'
end)
""")

# ARGV: id, asked_ms, status, code, message, call. Notes an attempt, unless the delivery is over or another by
# now.
NOTE_DELIVERY = with_prelude("""
return once(ARGV[6], function()
  local id = ARGV[1]
  local text = get(id, 'delivery')
  local delivery = text and cjson.decode(text)
  if not delivery or delivery.status ~= 'pending' or delivery.asked_ms ~= tonumber(ARGV[2]) then return 0 end
  delivery.attempts, delivery.status = delivery.attempts + 1, ARGV[3]
  if ARGV[3] == 'delivered' then delivery.code, delivery.message = nil, nil
  else delivery.code, delivery.message = ARGV[4], ARGV[5] end
  if ARGV[3] ~= 'pending' then
    delivery.ended_ms = now_ms()
    redis.call('HINCRBY', key_deliveries_ended(), ARGV[3], 1)
  end
  redis.call('HSET', key_job(id), 'delivery', cjson.encode(delivery))
  touch(id)
  return 1
end)
""")

# ARGV: id. For who has told the customer of its end: nothing more is to come of it, unless it is pending.
CLOSE_DELIVERY = with_prelude("""
local text = get(ARGV[1], 'delivery')
if not text or cjson.decode(text).status ~= 'pending' then
  redis.call('ZREM', key_result_deliveries(), ARGV[1])
end
""")

# ARGV: how many at most, after how many ms to look again. Returns whose message should be looked for; where
# that answer is lost, they come again.
DUE_DELIVERIES = with_prelude("""
local key, now = key_result_deliveries(), now_ms()
local ids = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(ids) do redis.call('ZADD', key, now + tonumber(ARGV[2]), id) end
return ids
""")
