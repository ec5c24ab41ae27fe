-- The guard: stops a script at its deadline, on cancellation or out of memory, whatever the script does to go on.
--
-- A count hook in every coroutine of a script asks the host, every few milliseconds, whether to go on. To stop is to
-- raise, and everything that can catch an error (pcall, xpcall, coroutine.resume, wrap, close) is replaced by a version
-- that does not give the script control back: where it can, it yields to the host for good, so that a deep stack need
-- not be unwound; inside a C function it raises again.
--
-- Errors raised inside a hook need care: Lua keeps hooks switched off until a pcall has unwound, so nothing of the
-- script may run before that. Hence `xpcall` calls the handler after unwinding, and a coroutine that died that way is
-- never closed (its `__close` methods would run unwatched).
--
-- `tick(log)` is the host: takes the log written so far (or nil), answers 0 to go on or the number of a reason to stop.
-- What the host answers is a number, here and everywhere: to make a text of the host's is to allocate, and an allocation
-- that fails there would leave the host in the middle of its own work. Where it has to be a text, `room` comes first.
--
-- Where the host stops scripts by killing the process, `watched` is false: there is no hook, which makes pure Lua about
-- twice as fast, and the log is handed to the host as it is written.
--
-- What one instruction costs has no bound but memory: texts of megabytes are compared, joined, searched. So the hook
-- comes more often where there is much in memory, and library functions tell of big texts before they make them (`big`).
--
-- A script can make much of little in few instructions (`s = s .. s`), between two hooks. Lua collects garbage then: that
-- is noticed by a finalizer (`alert`). While there is little in memory, Lua is told to collect in one go, so that it does.
--
-- Lua does not count the texts that its library makes in buffers of its own (`rep`, `concat`, `gsub`, …) as memory that
-- is worth collecting, and does not collect when there is no room for one. `big` does both in its place.

local tick, used, watched, limit = ...

local clock, sethook, getinfo = os.clock, debug.sethook, debug.getinfo
local error, type, find, gsub, select = error, type, string.find, string.gsub, select
local pcall, setmetatable = pcall, setmetatable
local create, resume, running, status, yield = coroutine.create, coroutine.resume, coroutine.running, coroutine.status, coroutine.yield
local close, yieldable = coroutine.close, coroutine.isyieldable
local collect = collectgarbage
local STEPS <const> = collect("param", "stepmul")

local PACE <const> = 512       -- instructions from one hook to the next
local STRIDE <const> = 4       -- hooks from one look at the clock to the next, while there is little in memory
local LITTLE <const> = 2 << 20 -- bytes
local MUCH <const> = 16 << 20  -- bytes from which on the hook comes more often: in inverse proportion to them
local LEAST_PACE <const> = 16
local ASK_EVERY <const> = 0.005 -- seconds of processor time between two questions to the host
local SLOW <const> = 0.001     -- a hook interval that took longer was spent in C: watch more closely
local BIG_STEP <const> = 1 << 20 -- bytes of texts that are made at once, for which memory is looked at first
local SPARE <const> = 65536    -- bytes that the host may need besides what it answers
local MEMORY <const> = "not enough memory"
local STOPPED <const> = "the script was stopped"

local REASONS <const> = {"Cancelled", "Timeout"}

-- `limit`: the bytes that the whole state may hold. `raised`: what the host raised (a signal's exception, say).
local guard = {watched = watched, limit = limit, raised = nil, reason = nil, take_log = nil, worker = nil, on_stop = nil}
local pace, hooked, asked, skipped = PACE, 0, 0, 0
local grown, steps = false, nil -- whether Lua has collected lately; how it does
local made, hidden = 0, 0 -- bytes of big texts: made since memory was last looked at; those that Lua does not count
local ours = {} -- functions that bring a stopped script to the host
local crashed = setmetatable({}, {__mode = "k"}) -- coroutines whose `__close` methods must not run

local hook

-- The host's own code outside of any coroutine (it converts values) is stopped, too, but never hooked.
local function stop(reason)
  local _, host = running()
  if reason then
    guard.reason = reason
    guard.on_stop()
    if not host then sethook(hook, "", 1) end
  end
  if yieldable() then yield() end
  if not host then sethook(hook, "", 1) end -- what is closed on the way out
  error(STOPPED, 0)
end
ours[stop] = true

-- Functions of other files that a stopped script passes on its way to the host.
function guard.trust(f) ours[f] = true end

-- An exception of Python's must not reach a script: it is an object of Python's, and could be caught. It may come from
-- anywhere in the host, even before its first line.
local function answered(fine, ...)
  if fine then return ... end
  if type(...) ~= "userdata" then error((...), 0) end -- Lua's own: the host was not reached, the C stack is full
  guard.raised = ...
  stop("Cancelled")
end

-- A function of the host, as the sandbox may call it.
function guard.host(f)
  return function(...) return answered(pcall(f, ...)) end
end
used = guard.host(used)

local function ask(now)
  asked = now
  local reason = REASONS[answered(pcall(tick, guard.take_log()))]
  if reason then stop(reason) end
end

-- Hands the log written so far to the host at once.
function guard.report() ask(clock()) end

-- Called after work that no hook watches: asks the host whether to go on, if that is due.
function guard.look()
  local now = clock()
  if now - asked >= ASK_EVERY then ask(now) end
end

-- Bytes that the whole state holds, and an estimate of them that costs next to nothing.
local function held()
  local all = used()
  hidden = all - collect("count") * 1024
  return all
end

-- Raises unless `bytes` more can be had, and some to spare.
function guard.room(bytes)
  if used() + bytes + SPARE <= guard.limit then return end
  collect()
  if held() + bytes + SPARE > guard.limit then error(MEMORY, 0) end
end

function guard.collect() collect() end

-- Forgets that a script was stopped: where the state is used on although one was.
function guard.revive()
  guard.reason, guard.raised, pace = nil, nil, PACE
end

-- The time that changing the pace takes is not the script's: it grows with the depth of the stack.
local function change_pace(to)
  pace = to
  sethook(hook, "", to)
  hooked = clock()
end

-- How often the hook comes where `bytes` are held: in steps, because a change costs time.
local function pace_for(bytes)
  local to = PACE
  while bytes > MUCH and to > LEAST_PACE do
    to = to // 2
    bytes = bytes / 2
  end
  return to
end

-- Has the hook come soon, because memory has grown.
local function alert()
  local _, host = running()
  if not host and not guard.reason and pace > LEAST_PACE then
    pace = LEAST_PACE
    sethook(hook, "", pace)
  end
  grown = true
end

-- An object that is garbage at once: Lua calls `__gc` when it has gone through all memory.
local SENTINEL <const> = {__gc = function(_)
  alert()
  return guard.post()
end}

function guard.post() setmetatable({}, SENTINEL) end

-- Lets Lua collect in one go while there is little in memory, and in small steps when there is much.
local function set_collector(bytes)
  grown = false
  local to = bytes < MUCH and 0 or STEPS
  if to ~= steps then
    steps = to
    collect("param", "stepmul", to)
  end
end

function hook()
  if guard.reason then
    if ours[getinfo(2, "f").func] then return end
    error(STOPPED, 0)
  end
  local bytes = collect("count") * 1024 + hidden
  if grown then set_collector(bytes) end
  if bytes < LITTLE then
    skipped = skipped + 1
    if skipped < STRIDE then return end
    skipped = 0
  end
  local now = clock()
  local spent = now - hooked
  hooked = now
  local most = pace_for(bytes)
  if spent > SLOW and pace > LEAST_PACE then
    change_pace(pace // 8 < LEAST_PACE and LEAST_PACE or pace // 8)
  elseif pace > most then
    change_pace(most)
  elseif pace < most and spent < SLOW / 8 then
    change_pace(pace * 2 > most and most or pace * 2)
  end
  if now - asked >= ASK_EVERY then
    if hidden > 0 then held() end
    ask(now)
  end
end

-- Called by library functions before they make a text of about `bytes`, or do as much work in one call.
function guard.big(bytes)
  made = made + bytes
  if made > BIG_STEP then
    made = 0
    if held() + bytes > guard.limit // 4 * 3 then
      collect()
      held()
    end
  end
  if not watched then return end
  hidden = hidden + bytes
  guard.look()
end

-- Raises again what no script may catch. An error can also be one that kept the hook itself from running (the C stack
-- was full), so that the host is asked here too.
local function rethrow(message)
  if guard.reason then stop() end
  if message == MEMORY then stop("MemoryLimit") end
  guard.look()
end
ours[rethrow] = true
guard.rethrow = rethrow

-- Error texts name the host's own lines where a native function was called through a replacement of ours.
local function plain(message)
  if type(message) == "string" and find(message, "^host:%d+: ") then return (gsub(message, "^host:%d+: ", "")) end
  return message
end
guard.plain = plain

local function caught(ok, ...)
  if ok then return ok, ... end
  rethrow(...)
  return ok, plain(...)
end
ours[caught] = true

function guard.pcall(f, ...)
  return caught(pcall(f, ...))
end

local function handled(handler, ok, ...)
  if ok then return ok, ... end
  rethrow(...)
  return false, select(2, caught(pcall(handler, (plain(...)))))
end
ours[handled] = true
ours[guard.pcall] = true

function guard.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    error("bad argument #2 to 'xpcall' (function expected, got " .. type(handler) .. ")", 2)
  end
  return handled(handler, pcall(f, ...))
end
ours[guard.xpcall] = true

---------------------------------------------------------------------------------------------------------------------

local coroutines = {status = status}
guard.coroutine = coroutines

function guard.watch(thread)
  if watched then sethook(thread, hook, "", pace) end
end

function coroutines.create(f)
  if type(f) ~= "function" then
    error("bad argument #1 to 'create' (function expected, got " .. type(f) .. ")", 2)
  end
  local thread = create(f)
  guard.watch(thread)
  return thread
end

local function is_overflow(message)
  return type(message) == "string" and (find(message, "stack overflow", 1, true) or find(message, "error in error", 1, true))
end

local function resumed(thread, ok, ...)
  if guard.reason then stop() end
  if ok then return ok, ... end
  if is_overflow(...) then crashed[thread] = true end
  rethrow(...)
  return ok, plain(...)
end

function coroutines.resume(thread, ...)
  if type(thread) ~= "thread" then
    error("bad argument #1 to 'resume' (coroutine expected, got " .. type(thread) .. ")", 2)
  end
  return resumed(thread, resume(thread, ...))
end
ours[coroutines.resume] = true

ours[resumed] = true

local function closed(...)
  rethrow((select(2, ...)))
  return ...
end
ours[closed] = true

function coroutines.close(thread)
  if type(thread) ~= "thread" then
    error("bad argument #1 to 'close' (coroutine expected, got " .. type(thread) .. ")", 2)
  end
  local state = status(thread)
  if state ~= "suspended" and state ~= "dead" then error("cannot close a " .. state .. " coroutine", 2) end
  if crashed[thread] then return false, "stack overflow" end
  return closed(close(thread))
end
ours[coroutines.close] = true

local function unwrapped(thread, ok, ...)
  if guard.reason then stop() end
  if ok then return ... end
  if is_overflow(...) then crashed[thread] = true end
  rethrow(...)
  local message = plain(...)
  if status(thread) == "dead" and not crashed[thread] then
    local fine, second = close(thread)
    if not fine then
      rethrow(second)
      message = plain(second)
    end
  end
  error(message, 0)
end
ours[unwrapped] = true

function coroutines.wrap(f)
  if type(f) ~= "function" then
    error("bad argument #1 to 'wrap' (function expected, got " .. type(f) .. ")", 2)
  end
  local thread = coroutines.create(f)
  return function(...) return unwrapped(thread, resume(thread, ...)) end
end

function coroutines.yield(...)
  if running() == guard.worker then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end

function coroutines.running()
  local thread = running()
  return thread, thread == guard.worker
end

function coroutines.isyieldable(thread)
  if (thread or running()) == guard.worker then return false end
  return yieldable((thread or running()))
end

if watched then
  set_collector(0)
  guard.post()
end

return guard
