# SPDX-License-Identifier: Apache-2.0
"""Every damage of a journal is noticed and located, and what is sound around it can be used."""

from __future__ import annotations

import pytest

from meshbox.api.journal.format import HEADER_SIZE, Header, encode, read

from .journals import WAYS, damaged, fill, state


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, set[tuple[str, tuple[str, str], bytes]]]:
    """Two journals of the same age, and every state that an object of either had."""
    folder = tmp_path_factory.mktemp("journals")
    states = fill(folder / "one", 1) | fill(folder / "two", 2)
    return (folder / "one").read_bytes(), (folder / "two").read_bytes(), states


@pytest.mark.parametrize("seed", range(5 * len(WAYS)))
def test_a_damaged_journal_is_noticed_and_nothing_is_made_up(two, seed):
    one, other, states = two
    way, content = damaged(one, other, seed)
    reading = read(content)
    assert reading.damages, f"{way} was not noticed"
    assert reading.torn == 0, way
    assert all((resource, key, raw) in states for (resource, key), raw in state(reading).items()), way


def sample(numbers: range = range(1, 9)) -> bytes:
    header = Header(b"0123abcd", 2, 8).encode()
    return header + b"".join(encode(b"0123abcd", n, b'{"version":%d}' % n) for n in numbers)


def test_a_sound_journal_is_read_to_its_end():
    reading = read(sample())
    assert (reading.damages, reading.torn, reading.size, reading.last) == ([], 0, len(sample()), 8)
    assert list(reading.payloads()) == [b'{"version":%d}' % n for n in range(1, 9)]
    assert (reading.header.snapshot, reading.header.synced) == (2, 8)


def test_every_single_bit_counts_and_costs_one_record_at_most():
    content = sample()
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        reading = read(bytes(changed))
        assert reading.damages, bit
        assert len(reading.records) >= 7, bit


def test_every_cut_is_noticed_and_keeps_what_is_before_it():
    content = sample()
    for size in range(len(content)):
        reading = read(content[:size])
        assert reading.damages, size
        whole = max(0, content[:size].count(b"\n") - 1)
        assert list(reading.records)[:whole] == list(range(1, whole + 1)), size


def test_a_record_that_was_never_finished_is_no_damage():
    content = Header(b"0123abcd", 2, 5).encode() + sample()[HEADER_SIZE:]
    last = len(encode(b"0123abcd", 8, b'{"version":8}'))
    for missing in range(1, last):
        reading = read(content[:-missing])
        assert (reading.damages, reading.torn, len(reading.records)) == ([], last - missing, 7)


def test_what_was_safe_on_disk_cannot_be_a_record_that_was_never_finished():
    reading = read(sample()[:-1])
    assert [(one.first, one.last) for one in reading.damages] == [(8, 8)]


@pytest.mark.parametrize("tail", [bytes(40), b"0123abcd 00000007 ", b"ffffffff 00000009 "])
def test_another_end_than_of_the_next_record_is_damage(tail):
    reading = read(sample() + tail)
    assert [(one.first, one.offset) for one in reading.damages] == [(9, len(sample()))]
    assert len(reading.records) == 8


def test_damage_is_located():
    content = bytearray(sample())
    line = len(encode(b"0123abcd", 1, b'{"version":1}'))
    offset = HEADER_SIZE + 3 * line
    content[offset + 30] ^= 4
    (one,) = read(bytes(content)).damages
    assert str(one) == f"record 4 at byte {offset}: it is not as it was written"
    missing = sample(range(1, 4)) + sample(range(6, 9))[HEADER_SIZE:]
    (two,) = read(missing).damages
    assert str(two) == f"records 4 to 5 at byte {offset}: records are missing before it"


def test_records_that_changed_places_are_all_found():
    lines = sample().splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    reading = read(b"".join(lines))
    assert list(reading.payloads()) == [b'{"version":%d}' % n for n in range(1, 9)]
    assert (reading.lost, len(reading.damages)) == (0, 2)


def test_the_records_of_a_lost_header_are_found():
    reading = read(bytes(HEADER_SIZE) + sample()[HEADER_SIZE:])
    assert [one.first for one in reading.damages] == [0]
    assert list(reading.records) == list(range(1, 9))


def test_a_newer_format_is_called_by_its_number():
    content = sample()
    text = content[: HEADER_SIZE - 10].replace(b"labkit-journal 2", b"labkit-journal 7")
    from zlib import crc32

    (one, *_) = read(b"%s %08x\n" % (text, crc32(text))).damages
    assert "format 7, and this version of labkit reads formats 1 and 2" in str(one)
