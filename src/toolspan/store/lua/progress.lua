-- Write progress replies of calls that run, as one step.
--
-- KEYS[1] stream     tool calls
-- KEYS[2..] replies  the reply streams of this batch
-- ARGV[1] group
-- ARGV[2] consumer   who believes it holds the deliveries
-- ARGV[3] reply_ttl
-- ARGV[4] most       how many replies may lie unread for progress to be written: final ones must not be pushed out
-- ARGV[5..] entries  for each: entry id, attempt, which of the reply streams, number of values, the values
--
-- Returns a digit for each: 1 written,
--                           0 no longer ours, its final reply included: nothing was written,
--                           2 there is no room for it, or it cannot be written.

local stream = KEYS[1]
local group, consumer, reply_ttl, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local REPLIES, ENTRIES = 1, 5

local function write(entry_id, attempt, key, first, last)
  local held = redis.call('XPENDING', stream, group, entry_id, entry_id, 1, consumer)[1]
  if not held or held[4] ~= attempt then
    return 0
  end
  local unread = redis.pcall('XLEN', key)
  if type(unread) ~= 'number' or unread >= most then
    return 2
  end
  local answer = redis.pcall('XADD', key, '*', unpack(ARGV, first, last))
  if type(answer) ~= 'string' then
    return 2
  end
  redis.call('EXPIRE', key, reply_ttl)
  return 1
end

local statuses = {}
local i = ENTRIES
while i <= #ARGV do
  local first = i + 4
  local last = first + tonumber(ARGV[i + 3]) - 1
  statuses[#statuses + 1] = write(ARGV[i], tonumber(ARGV[i + 1]), KEYS[REPLIES + tonumber(ARGV[i + 2])], first, last)
  i = last + 1
end
return table.concat(statuses)
