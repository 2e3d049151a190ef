"""Looking at jobs, as a script: many at once, and no more of each than its client has not seen."""

from __future__ import annotations

from jobs._record_format import FIELDS
from jobs.keys import with_keys

EVERYTHING = "\n"
"""Seen by who wants no more of a job than its place. No header of a client can say it."""
_NAMES = ", ".join(f"'{name}'" for name in FIELDS)

# ARGV: id and tags of what its client has seen, by turns. Returns for each job its owner, version,
# state, place in the queue (0 where it does not wait), and, unless it has been seen, its fields.
LOOK = with_keys(
    f"""
local before
local function place_of(id, priority)
  if not before then
    local high, normal = redis.call('ZCARD', key_waiting('high')), redis.call('ZCARD', key_waiting('normal'))
    before = {{high = 0, normal = high, low = high + normal}}
  end
  local rank = redis.call('ZRANK', key_waiting(priority), id)
  return rank and before[priority] + rank + 1 or 0
end
local answers = {{}}
for i = 1, #ARGV, 2 do
  local key = key_job(ARGV[i])
  local head = redis.call('HMGET', key, 'owner', 'version', 'state', 'priority')
  local owner, version, state, priority = unpack(head)
  local place = state == 'queued' and place_of(ARGV[i], priority) or 0
  local answer = {{owner, version, state, place}}
  local seen, tag = ARGV[i + 1], '"' .. (version or '') .. '-' .. place .. '"'
  if version and seen ~= '\\n' and not string.find(seen, tag, 1, true) then
    answer[5] = redis.call('HMGET', key, {_NAMES})
  end
  answers[#answers + 1] = answer
end
return answers
"""
)
