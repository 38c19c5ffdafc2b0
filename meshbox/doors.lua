-- SPDX-License-Identifier: Apache-2.0
-- Whether the other end of a TCP connection belongs to this user or to root: labkit/ground/peers.py, for Envoy.
--
-- Envoy asks once for each connection, with "PEER:PORT OWN:PORT". The kernel tells anybody whose a socket is, by its
-- socket diagnosis or, where it has none, in /proc/net/tcp.

local ffi = require("ffi")
local bit = require("bit")

ffi.cdef [[
unsigned geteuid(void);
int socket(int domain, int type, int protocol);
long send(int fd, const void *data, size_t length, int flags);
long recv(int fd, void *data, size_t length, int flags);
int close(int fd);
]]

local C = ffi.C
local AF_INET, AF_NETLINK, TCP = 2, 16, 6
local RAW, CLOEXEC, DIAG, DONTWAIT = 3, 0x80000, 4, 0x40
local BY_FAMILY, ERROR, LISTEN = 20, 2, 10
local SIZE = 72

local question = ffi.new("uint8_t[72]")
local answer = ffi.new("uint8_t[4096]")

-- Set once the diagnosis has found a connection: what it does not find from then on is not there.
local diagnosed = false

local function number(at)
  return tonumber(ffi.cast("uint32_t *", answer + at)[0])
end

local function put(at, value)
  ffi.cast("uint32_t *", question + at)[0] = value
end

local function put_end(port_at, address_at, bytes, port)
  question[port_at] = bit.rshift(port, 8)
  question[port_at + 1] = bit.band(port, 255)
  for index = 1, 4 do
    question[address_at + index - 1] = bytes[index]
  end
end

-- The owner, false if there is none, nil if this kernel does not answer such questions.
local function diagnosis(peer, peer_port, own, own_port)
  local fd = C.socket(AF_NETLINK, RAW + CLOEXEC, DIAG)
  if fd < 0 then
    return nil
  end
  ffi.fill(question, SIZE)
  put(0, SIZE)
  question[4], question[6] = BY_FAMILY, 1
  question[16], question[17] = AF_INET, TCP
  put(20, 0xffffffff)
  put_end(24, 28, peer, peer_port)
  put_end(26, 44, own, own_port)
  put(64, 0xffffffff)
  put(68, 0xffffffff)
  local got = -1
  if C.send(fd, question, SIZE, 0) == SIZE then
    -- The kernel answers while it is asked. One that has not is not waited for: all of Envoy would wait.
    got = tonumber(C.recv(fd, answer, 4096, DONTWAIT))
  end
  C.close(fd)
  if got < 88 or answer[4] ~= BY_FAMILY then
    local missing = got >= 20 and answer[4] == ERROR and ffi.cast("int32_t *", answer + 16)[0] == -2
    if missing and diagnosed then
      return false
    end
    return nil
  end
  -- Where there is no such connection the kernel answers with who listens at that address.
  if answer[17] == LISTEN then
    return false
  end
  for index = 20, 23 do
    if answer[index] ~= question[index + 4] then
      return false
    end
  end
  -- A socket of IPv6 that speaks IPv4 says so in its last four bytes of sixteen.
  local before = answer[16] == AF_INET and 0 or 12
  for index = 0, 3 do
    local from, to = answer[24 + before + index], answer[40 + before + index]
    if from ~= question[28 + index] or to ~= question[44 + index] then
      return false
    end
  end
  diagnosed = true
  -- A socket that no process has any more says that it is root's.
  return number(84) ~= 0 and number(80)
end

local function hexadecimal(bytes, port)
  local word = ffi.new("uint8_t[4]", bytes)
  return string.format("%08X:%04X", tonumber(ffi.cast("uint32_t *", word)[0]), port)
end

local function listed(peer, peer_port, own, own_port)
  local there, here = hexadecimal(peer, peer_port), hexadecimal(own, own_port)
  local mapped = "0000000000000000FFFF0000"
  for name, prefix in pairs({ tcp = "", tcp6 = ffi.abi("le") and mapped or "00000000000000000000FFFF" }) do
    local file = io.open("/proc/net/" .. name)
    if file then
      for line in file:lines() do
        local one, two, uid, inode = line:match("^%s*%d+: (%x+:%x+) (%x+:%x+) %S+ %S+ %S+ %S+%s+(%d+)%s+%d+%s+(%d+)")
        if one == prefix .. there and two == prefix .. here then
          file:close()
          return inode ~= "0" and tonumber(uid)
        end
      end
      file:close()
    end
  end
  return false
end

local function parsed(text)
  local one, two, three, four, port = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+):(%d+)$")
  if not port then
    return nil
  end
  return { tonumber(one), tonumber(two), tonumber(three), tonumber(four) }, tonumber(port)
end

function envoy_match(ends)
  local first, second = ends:match("^(%S+) (%S+)$")
  if not second then
    return false
  end
  local peer, peer_port = parsed(first)
  local own, own_port = parsed(second)
  if not peer or not own then
    return false
  end
  local uid = diagnosis(peer, peer_port, own, own_port)
  if uid == nil then
    uid = listed(peer, peer_port, own, own_port)
  end
  return uid == 0 or uid == tonumber(C.geteuid())
end
