"""The Lua checker of `make check`: what it must find, and what it must leave alone."""

import pytest

from tools.check_lua import findings

GOOD = """\
-- Renew one lease.
--
-- KEYS[1] stream
-- KEYS[2..] others
-- ARGV[1] group
-- ARGV[2] entry_id
local stream = KEYS[1]
local group, entry_id = ARGV[1], ARGV[2]
local function again(n)
  return n > 0 and again(n - 1)
end
for i, key in ipairs(KEYS) do
  local row = { id = entry_id, [i] = key, function(_unused) return group end }
  redis.call('XADD', stream, '*', row.id, tostring(again(i)))
end
repeat local done = true until done
return redis.status_reply('OK')
"""


def test_a_good_script_has_no_findings() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("local x = = 1", "syntax"),
        ("return strem", "'strem' is not defined"),
        ("for i = 1, 2 do redis.call('DEL', i) end return i", "'i' is not defined"),
        ("count = 1", "'count' is set as a global, which Redis refuses; make it local"),
        ("function count() return 1 end", "'count' is set as a global, which Redis refuses; make it local"),
        ("local unread = 1", "local 'unread' is never read"),
        ("local function f(a, b) return a end return f", "local 'b' is never read"),
        ("local a = 1 for _, a in ipairs(a) do return a end", "local 'a' hides another of that name"),
        (f"-- {'a' * 118}", "longer than 120 characters"),
        ("return 7 // 2", "is not in Lua 5.1"),
        ("return 7 & 2", "is not in Lua 5.1"),
        ("do goto out end ::out::", "is not in Lua 5.1"),
        ("return KEYS[1]", "KEYS[1] is read but the header does not name it"),
        ("-- ARGV[1] group\nreturn 1", "ARGV[1] is in the header but never read"),
    ],
)
def test_a_mistake_is_found(line: str, complaint: str) -> None:
    messages = [message for _, message in findings(line)]

    assert any(complaint in message for message in messages), messages
