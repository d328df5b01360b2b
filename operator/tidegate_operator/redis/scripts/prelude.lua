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

-- Whether the first id is before the second; the halves are too long for a number of Lua.
local function is_before(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  if ms == other_ms then ms, other_ms = seq, other_seq end
  return #ms < #other_ms or (#ms == #other_ms and ms < other_ms)
end

-- Whether somebody else reads the stream with a group, and neither our group nor our mark has come to `last`.
local function is_foreign(key, group, mark, last)
  local others, behind = false, true
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local by = named(row)
    if by.name ~= group and by.name ~= mark then
      others = true
    elseif not is_before(by['last-delivered-id'], last) then
      behind = false
    end
  end
  return others and behind
end

local function group_of(key, name)
  local all = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #all do
    local by = named(all[i])
    if by.name == name then return by end
  end
  return false
end
