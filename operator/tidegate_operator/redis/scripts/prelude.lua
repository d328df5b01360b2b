-- Shared by the sweep's scripts about streams.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A flat list of names and values as a table.
local function named(row)
  local by = {}
  for i = 1, #row, 2 do by[row[i]] = row[i + 1] end
  return by
end

-- XINFO STREAM by name, or false when there is no stream.
local function inspect(key)
  if redis.call('EXISTS', key) == 0 then return false end
  return named(redis.call('XINFO', 'STREAM', key))
end

-- Whether the stream is still what it was judged by: its newest entry, or without one ('') the greatest id it ever had.
local function is_same(info, last, newest)
  local entry = info['last-entry']
  if entry then return entry[1] == newest end
  return newest == '' and info['last-generated-id'] == last
end

-- Connections on the stream's relay channel; -1 when the login may not know.
local function subscribers(key)
  local reply = redis.pcall('PUBSUB', 'SHARDNUMSUB', key)
  return reply.err and -1 or reply[2]
end

-- Consumers of a group; none when the group is missing.
local function consumers_of(key, group)
  local reply = redis.pcall('XINFO', 'CONSUMERS', key, group)
  if reply.err then return {} end
  return reply
end

local function group_of(key, name)
  local all = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #all do
    local by = named(all[i])
    if by.name == name then return by end
  end
  return false
end
