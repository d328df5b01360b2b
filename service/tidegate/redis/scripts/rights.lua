#!lua
-- KEYS[1] a key that nobody has; ARGV: commands as MessagePack arrays.
-- Tries each of them, in this order, and removes the key. Returns the names of those that the login may not run.
local refused = {}
for i = 1, #ARGV do
  local command = cmsgpack.unpack(ARGV[i])
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err
    and (string.find(reply.err, 'NOPERM', 1, true) or string.find(reply.err, 'ACL failure', 1, true)) then
    refused[#refused + 1] = command[1]
  end
end
redis.pcall('UNLINK', KEYS[1])
return refused
