-- Shared by the slot scripts. KEYS[1] is a user's slots (hash: connection -> '<incarnation> <since in ms>').
-- ARGV begins with: order of the caller's view of the pods (0 = it may not purge), caller's incarnation, TTL in ms,
-- number of live incarnations, these.
local key, order, mine, ttl, live_count = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3], tonumber(ARGV[4])
local FIRST = 5 + live_count -- the script's own arguments

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function put(connection, since)
  redis.call('HSET', key, connection, string.format('%s %d', mine, since))
end

local function birth(incarnation)
  return incarnation and tonumber(string.match(incarnation, '%.(%d+)%.%w+$')) or 0
end

-- Drops what belongs to dead pods. Returns what is left, connection -> {incarnation, since}, and how many.
local function living()
  local live = {[mine] = true}
  for i = 5, FIRST - 1 do live[ARGV[i]] = true end
  local all, left, count = redis.call('HGETALL', key), {}, 0
  for i = 1, #all, 2 do
    local incarnation, since = string.match(all[i + 1], '^(%S+) (%d+)$')
    if order > 0 and birth(incarnation) < order and not live[incarnation] then
      redis.call('HDEL', key, all[i])
    else
      left[all[i]] = {incarnation or '', tonumber(since) or 0}
      count = count + 1
    end
  end
  return left, count
end
