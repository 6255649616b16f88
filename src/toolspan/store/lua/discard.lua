-- Throw a dead letter away, and write down who did it and why.
--
-- KEYS[1] dead_letters
-- KEYS[2] audit         what operators did
-- ARGV[1] letter_id
-- ARGV[2] original_id   its entry id, or empty where it cannot be read
-- ARGV[3] who
-- ARGV[4] why
-- ARGV[5] matching      the filters of a bulk action, or empty
--
-- Returns 1 when discarded, 0 when it was not there.
--
-- include clock
-- include audit

local dead_letters = KEYS[1]
local letter_id, original_id, who, why, matching = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local discarded = redis.call('XDEL', dead_letters, letter_id)
if discarded == 1 then
  local notes = { 'dead_letter', letter_id, 'why', why }
  for _, note in ipairs({ { 'dlq.id', original_id }, { 'matching', matching } }) do
    if note[2] ~= '' then
      notes[#notes + 1] = note[1]
      notes[#notes + 1] = note[2]
    end
  end
  audit(KEYS[2], now_ms(), 'discard', who, unpack(notes))
end
return discarded
