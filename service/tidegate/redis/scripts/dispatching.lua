-- The dispatch duty; behind common.lua. A script makes what is in it anew each time it is called, so a script gets no
-- more of these files than it uses.

-- Where entries are relayed; '' is the stream's own name. The script in front says it.
local channel = ''

-- The longest message with entries in it. Every replica that watches is pushed a copy, as fast as Redis runs and not as
-- fast as it reads, and Redis ends a connection to which too much is on its way (client-output-buffer-limit pubsub: 32 MB).
-- With this, `redis.in_flight` asks for 1 MiB at the most at a time, so that 20 replicas together stay below.
local RELAY_BYTES = 16384

-- Relay to every replica that watches. `created`: 1 when the group was missing, 2 when an attach has found that, 0 else.
-- `previous` is '' when no entry comes before (any more); then `added` tells how many were ever added, which can prove
-- the same. In place of entries that are too large (`size` is that of their fields) stands the id of the last one: each
-- replica reads them itself.
local function relay_after(key, pod, previous, created, entries, size, added)
  local packed = size <= RELAY_BYTES and cmsgpack.pack({pod, previous, created, entries, added})
  if not packed or #packed > RELAY_BYTES then
    packed = cmsgpack.pack({pod, previous, created, entries[#entries][1], added})
  end
  redis.call('SPUBLISH', channel == '' and key or channel, packed)
end

-- The same, behind whatever entry comes before.
local function relay(key, pod, created, entries, size)
  local previous, added = '', false
  if #entries > 0 then
    local before = redis.call('XREVRANGE', key, '(' .. entries[1][1], '-', 'COUNT', 1)
    if before[1] then
      previous = before[1][1]
    else
      added = inspect(key)[4]
    end
  end
  relay_after(key, pod, previous, created, entries, size, added)
end

-- What Redis says of the group, by name of the field; nil where there is none.
local function group_of(key, group)
  local groups = redis.call('XINFO', 'GROUPS', key)
  for i = 1, #groups do
    local by = {}
    for j = 1, #groups[i], 2 do by[groups[i][j]] = groups[i][j + 1] end
    if by['name'] == group then return by end
  end
end

-- How many entries the group has not read; 1 when the server cannot tell (deleted entries, an id set by hand).
local function lag(key, group)
  local by = group_of(key, group)
  return by and math.max(1, tonumber(by['lag'] or 1) or 1) or 1
end

-- Read what the group has not seen yet and relay it. Returns {count, newest id, more}; `more` is about how many are
-- left, and 0 when none is. Each way through has a read (XREADGROUP is none), which arms the doorbell of the caller.
local function dispatch(key, group, pod, max_entries, max_bytes, max_entry_bytes)
  local batch, size, created, more = nil, 0, 0, 0
  local want = math.min(CHUNK, max_entries)
  while true do
    local reply = redis.pcall(
      'XREADGROUP', 'GROUP', group, pod, 'COUNT', want, 'NOACK', 'STREAMS', key, '>')
    if reply and reply.err then
      if created == 1 or not string.find(reply.err, 'NOGROUP', 1, true) then return reply end
      if redis.call('EXISTS', key) == 0 then return {0, '', 0} end
      redis.call('XGROUP', 'CREATE', key, group, '0')
      created = 1
    elseif not reply then
      break
    else
      local got = reply[1][2]
      size = size + cut(got, max_entry_bytes)
      if not batch then
        batch = got
      else
        for i = 1, #got do batch[#batch + 1] = got[i] end
      end
      if #got < want then break end
      want = math.min(CHUNK, max_entries - #batch)
      if want == 0 or size >= max_bytes then
        more = lag(key, group)
        break
      end
    end
  end
  if batch or created == 1 then relay(key, pod, created, batch or {}, size) end
  if batch then return {#batch, batch[#batch][1], more} end
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  return {0, newest[1] and newest[1][1] or '', 0}
end
