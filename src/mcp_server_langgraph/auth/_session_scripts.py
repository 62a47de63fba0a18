"""What Redis does in one step, atomically and in one round trip: Lua for its EVAL.

A conversation's hash has these fields:

    owner, count (of messages), bytes (of their text), message:<message id> -> JSON of each message
    deleted     and nothing else but the owner: where a conversation was, so that what is still on its way is refused

All keys of a script are of one owner, hence of one hash slot; those of `DELETE_ALL` and of `APPEND`'s repair of the
index are computed from its members, which Redis Cluster allows within the slot.
"""

from typing import Final

__all__ = ["APPEND", "COUNT", "DELETE", "DELETE_ALL", "MANY", "READ"]

# HSETNX makes an append a merge: repeating one, or two instances writing back what they held, adds each message once.
# Messages that were acknowledged before (in an outage) come first and are merged without a question.
APPEND: Final = """
local owner, ttl, now, id, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local most_conversations, most_messages, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local expected, earlier = tonumber(ARGV[9]), tonumber(ARGV[10])
local known = redis.call('HMGET', KEYS[1], 'owner', 'deleted', 'count', 'bytes')
if known[1] and known[1] ~= owner then return {'foreign'} end
if known[2] then return {'deleted'} end
local count, bytes = tonumber(known[3] or 0) or 0, tonumber(known[4] or 0) or 0
local begun = known[1] or earlier > 0

local function merge(first, last)
  for i = first, last, 3 do
    if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) == 1 then
      count, bytes = count + 1, bytes + ARGV[i + 2]
    end
  end
  redis.call('HSET', KEYS[1], 'owner', owner, 'count', count, 'bytes', bytes)
  redis.call('ZADD', KEYS[2], now, id)
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
end

local function has_too_many()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. (now - ttl))
  if redis.call('ZCARD', KEYS[2]) < most_conversations then return false end
  for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if redis.call('EXISTS', prefix .. name) == 0 then redis.call('ZREM', KEYS[2], name) end
  end
  return redis.call('ZCARD', KEYS[2]) >= most_conversations
end

local function refusal(first)
  local new, more = 0, 0
  for i = first, #ARGV, 3 do
    if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then new, more = new + 1, more + ARGV[i + 2] end
  end
  if new == 0 and first <= #ARGV then return nil end
  if expected >= 0 and expected ~= count then return 'conflict' end
  if most_conversations > 0 and not begun and has_too_many() then return 'conversations' end
  if most_messages > 0 and count + new > most_messages then return 'messages' end
  if most_bytes > 0 and bytes + more > most_bytes then return 'bytes' end
  return nil
end

local first = 11 + 3 * earlier
if earlier > 0 then merge(11, first - 1) end
local refused = refusal(first)
if refused then return {refused, redis.call('HGETALL', KEYS[1])} end
merge(first, #ARGV)
return {'ok', redis.call('HGETALL', KEYS[1])}
"""

READ: Final = """
local record = redis.call('HGETALL', KEYS[1])
if #record > 0 and redis.call('HEXISTS', KEYS[1], 'deleted') == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('ZADD', KEYS[2], 'XX', ARGV[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[1])
end
return record
"""

MANY: Final = """
local found = {}
for i, key in ipairs(KEYS) do
  local record = redis.pcall('HGETALL', key)
  found[i] = record.err and {} or record
end
return found
"""

COUNT: Final = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. (ARGV[1] - ARGV[2]))
return redis.call('ZCARD', KEYS[1])
"""

# ARGV[4] = '1': leave the mark of a deletion even where there is nothing, because something is on its way.
DELETE: Final = """
local owner, ttl, id = ARGV[1], ARGV[2], ARGV[3]
local known = redis.pcall('HMGET', KEYS[1], 'owner', 'deleted')
local there = known.err or (known[1] == owner and not known[2])
if not there and ARGV[4] ~= '1' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'owner', owner, 'deleted', '1')
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('ZREM', KEYS[2], id)
return there and 1 or 0
"""

DELETE_ALL: Final = """
local owner, ttl, prefix = ARGV[1], ARGV[2], ARGV[3]
local deleted = {}
local function delete(id)
  local key = prefix .. id
  redis.call('DEL', key)
  redis.call('HSET', key, 'owner', owner, 'deleted', '1')
  redis.call('PEXPIRE', key, ttl)
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('EXISTS', prefix .. id) == 1 then deleted[#deleted + 1] = id end
  delete(id)
end
for i = 4, #ARGV do delete(ARGV[i]) end
redis.call('DEL', KEYS[1])
return deleted
"""
