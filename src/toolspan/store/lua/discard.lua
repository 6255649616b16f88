-- Throw a dead letter away, and write down who did it and why.
--
-- KEYS[1] dead_letters
-- KEYS[2] audit         what operators did
-- ARGV[1] letter_id
-- ARGV[2] who
-- ARGV[3] why
--
-- Returns 1 when discarded, 0 when it was not there.
--
-- include clock
-- include audit

local dead_letters = KEYS[1]
local letter_id, who, why = ARGV[1], ARGV[2], ARGV[3]

local discarded = redis.call('XDEL', dead_letters, letter_id)
if discarded == 1 then
  audit(KEYS[2], now_ms(), 'discard', who, letter_id, 'why', why)
end
return discarded
