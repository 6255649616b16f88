-- Entry ids, as text: their parts may have more digits than a number keeps.
local ids = {}

-- Whether *text* is one, so that no command refuses it. The greatest that we take has fewer digits than Redis allows.
function ids.valid(text)
  local ms, seq = string.match(text, '^(%d+)%-(%d+)$')
  return ms and #ms < 20 and #seq < 20
end

-- Whether the entry id *a* comes after *b*. Redis writes no zeros in front: of two numbers the longer is the greater.
function ids.after(a, b)
  local x, x_seq = string.match(a, '(%d+)-(%d+)')
  local y, y_seq = string.match(b, '(%d+)-(%d+)')
  if x == y then
    x, y = x_seq, y_seq
  end
  return #x > #y or (#x == #y and x > y)
end
