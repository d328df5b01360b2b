-- Reads what must not be large: all of it, or nothing; behind common.lua.

-- What these entries are on the wire, about.
local function wire_bytes(entries)
  local total = 0
  for i = 1, #entries do
    total = total + 48
    local fields = entries[i][2]
    if type(fields) == 'table' then
      for j = 1, #fields do total = total + #fields[j] + 12 end
    end
  end
  return total
end

-- For a reply that must not be large: all of the entries if they are `max_bytes` on the wire at the most, else none and
-- a 1. `command` is XRANGE, from the first one on, or XREVRANGE.
local function read_whole(key, command, from, to, count, max_bytes, max_entry_bytes)
  local found, size, chunk = {}, 0, FIRST_CHUNK
  while #found < count do
    local want = math.min(chunk, count - #found)
    local got = redis.call(command, key, from, to, 'COUNT', want)
    cut(got, max_entry_bytes)
    size = size + wire_bytes(got)
    if size > max_bytes then return {}, 1 end
    for i = 1, #got do found[#found + 1] = got[i] end
    if #got < want then return found, 0 end
    from, chunk = '(' .. got[#got][1], math.min(2 * chunk, CHUNK)
  end
  return found, 0
end

-- All entries above `after`. More than `count` are too many as well.
local function whole_after(key, after, count, max_bytes, max_entry_bytes)
  local found, beyond = read_whole(key, 'XRANGE', '(' .. after, '+', count + 1, max_bytes, max_entry_bytes)
  if #found > count then return {}, 1 end
  return found, beyond
end

-- The newest `count` entries, in their order.
local function whole_newest(key, count, max_bytes, max_entry_bytes)
  local newest_first, beyond = read_whole(key, 'XREVRANGE', '+', '-', count, max_bytes, max_entry_bytes)
  local found = {}
  for i = #newest_first, 1, -1 do found[#found + 1] = newest_first[i] end
  return found, beyond
end
