-- For scripts that append; behind dispatching.lua.

-- Dispatch without reading what was appended: the group had read all that was there before.
local function dispatch_appended(key, by, consumer, entries, size)
  relay_after(key, consumer, by['last-delivered-id'], 0, entries, size, false)
  redis.call('XGROUP', 'SETID', key, by['name'], entries[#entries][1], 'ENTRIESREAD', by['entries-read'] + #entries)
end

-- Whether the last entry that the group has read is there and the one before `entries`. Its lag would say so without this
-- read (2 of 10 us), but from Redis 8.0 on it does not count entries that were trimmed away unread.
local function has_read_all(key, by, entries)
  local before = redis.call('XREVRANGE', key, '(' .. entries[1][1], '-', 'COUNT', 1)[1]
  return before and before[1] == by['last-delivered-id']
end

local function dispatch_either_way(key, group, consumer, max_entries, max_bytes, max_entry_bytes, entries)
  local by, size = group_of(key, group), 0
  if not by then return end
  for i = 1, #entries do size = size + #entries[i][2][1] + #entries[i][2][2] end
  -- None is to be cut, and the server can tell how many the group has read.
  if size <= math.min(RELAY_BYTES, max_entry_bytes) and by['entries-read'] and has_read_all(key, by, entries) then
    dispatch_appended(key, by, consumer, entries, size)
  else
    dispatch(key, group, consumer, max_entries, max_bytes, max_entry_bytes)
  end
end

-- Dispatch `entries`, which were appended and have one field each, if there is a group. Without it nobody has seen this
-- stream; whoever waits for it is rung by the write itself, and a stream that nobody watches gets no group. The entries
-- are in: an error from here on must not look as if they were not.
local function spread(key, group, consumer, max_entries, max_bytes, max_entry_bytes, entries)
  pcall(dispatch_either_way, key, group, consumer, tonumber(max_entries), tonumber(max_bytes), tonumber(max_entry_bytes), entries)
end
