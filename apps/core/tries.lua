-- How often something failed of late. Each key counts on its own; all must have room.
--
-- KEYS: a count each.  ARGV: verb, now_ms, window_ms, then `most` per key.
-- take: counts a try in each and gives 0, or, when one has had its most in this window, counts nothing and gives the ms left of it.
-- fine: the try was no failure: the first key is forgotten, the others give it back.

local verb, now, window = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if verb == 'fine' then
  redis.call('DEL', KEYS[1])
  for i = 2, #KEYS do
    if tonumber(redis.call('HGET', KEYS[i], 'count') or 0) > 0 then redis.call('HINCRBY', KEYS[i], 'count', -1) end
  end
  return 0
end

local wait = 0
for i = 1, #KEYS do
  local found = redis.call('HMGET', KEYS[i], 'count', 'upto')
  local left = tonumber(found[2] or 0) - now
  if left > 0 and tonumber(found[1]) >= tonumber(ARGV[3 + i]) then wait = math.max(wait, left) end
end
if wait > 0 then return wait end

for i = 1, #KEYS do
  if tonumber(redis.call('HGET', KEYS[i], 'upto') or 0) > now then
    redis.call('HINCRBY', KEYS[i], 'count', 1)
  else
    redis.call('HSET', KEYS[i], 'count', 1, 'upto', now + window)
    redis.call('PEXPIRE', KEYS[i], window)
  end
end
return 0
