"""One node, step by step: what it asks of its App, tells its peers and records; and the traps that cores fall into."""

from random import Random

import pytest
from msgspec.structs import replace

from quorate.kernel import Failed, Fired, Job, Send, Submitted
from quorate.ledger.block import LedgerBlock
from quorate.ledger.chain_jobs import (
    BlockBuilt,
    BlocksFetched,
    BuildBlock,
    ExecuteBlock,
    FetchBlocks,
    FlushStore,
    Stood,
    StoreFlushed,
    WhereStands,
)
from quorate.ledger.outputs import Extended, Finalised, Offered, Rewound
from quorate.ledger.sealer.proof_of_work import FUTURE_S_MAX, Mine, Mined
from quorate.ledger.tree import BlockStatus
from quorate.ledger.tree_faults import tree_faults
from quorate.protocols.nakamoto.core import Nakamoto
from quorate.protocols.nakamoto.messages import (
    Arrived,
    Based,
    Condemned,
    Flushing,
    GiveBlocks,
    Headers,
    Locate,
    NakamotoConfig,
    PassOn,
    Settled,
    WantBlocks,
)

from tests.ledger.mining import GENESIS, mined, next_header
from tests.protocols.nakamoto.chain_nodes import BAD, WALL_NS, ChainNode, line, next_block, unrelated, wrong_body


def test_it_asks_where_the_store_is_and_builds_there() -> None:
    node = ChainNode(ready=False)
    assert list(node.started.jobs) == [Job((), "stand", WhereStands())]
    turn = node.done("stand", Stood(GENESIS.id))
    assert [job for job in turn.jobs if job.work] == [
        Job((), ("build", 1), BuildBlock(GENESIS.id, 1, WALL_NS // 10**9)),
    ]
    assert (turn.outputs, turn.records) == ((), ())


def test_its_own_block_is_executed_before_it_is_the_head() -> None:
    node = ChainNode()
    turn = node.mine(b"a payment")
    block = node.core.tree[node.core.tree.tips[0]].block
    assert block is not None
    assert [record.value for record in turn.records] == [Arrived(block)]
    assert turn.lazy
    assert [job.work for job in turn.jobs] == [ExecuteBlock(block.id, 1, block)]
    assert (turn.outputs, turn.early, node.core.head) == ((), (), GENESIS.id)
    turn = node.execute()
    assert turn.outputs == [Extended(block.id, 1, block)]
    assert turn.early == [Send((2, 3), (), Headers((block.header,)))]
    assert node.core.head == block.id
    assert node.jobs == {("build", 2): BuildBlock(block.id, 2, WALL_NS // 10**9)}


def test_an_announced_block_is_asked_for_executed_and_passed_on() -> None:
    node = ChainNode()
    [block] = line(GENESIS, 1, 1)
    turn = node.on(2, Headers((block.header,)))
    assert turn.sends == [Send((2,), (), WantBlocks((block.id,)))]
    assert turn.records == ()
    assert node.on(3, Headers((block.header,))).sends == (), "one is asked at a time"
    turn = node.on(2, GiveBlocks((block,)))
    assert [record.value for record in turn.records] == [Arrived(block)]
    assert node.on(3, GiveBlocks((block,))).records == (), "it is here"
    assert node.execute().outputs == [Extended(block.id, 1, block)]
    assert node.on(2, WantBlocks((block.id,))).sends == [Send((2,), (), GiveBlocks((block,)))]


def test_a_peer_that_does_not_give_is_not_asked_alone() -> None:
    node = ChainNode(retry_s=1.0)
    [block] = line(GENESIS, 1, 1)
    node.on(2, Headers((block.header,)))
    node.on(3, Headers((block.header,)))
    asked = []
    for _ in range(3):
        node.now += 1.0
        [send] = node.step(Fired("retry")).sends
        assert send.message == WantBlocks((block.id,))
        asked.append(send.to)
    assert asked == [(3,), (2,), (3,)]


def test_a_header_whose_parent_is_unknown_is_located_and_waits() -> None:
    node = ChainNode()
    blocks = line(GENESIS, 1, 4)
    turn = node.on(2, Headers((blocks[3].header,)))
    assert turn.sends == [Send((2,), (), Locate((GENESIS.id,)))]
    assert node.on(2, Headers((blocks[2].header,))).sends == (), "not all the time"
    turn = node.on(2, Headers(tuple(block.header for block in blocks[:3])))
    assert turn.sends == [Send((2,), (), WantBlocks(tuple(block.id for block in blocks)))], "the last one was here"
    assert len(node.core.orphans) == 0


def test_a_locator_is_answered_from_the_head_chain_or_by_the_store() -> None:
    node = ChainNode(headers_max=2)
    blocks = line(GENESIS, 1, 5)
    for at in range(0, 5, 2):
        node.give(2, *blocks[at : at + 2])
    node.execute_all()
    headers = tuple(block.header for block in blocks)
    assert node.on(3, Locate((unrelated(1), blocks[1].id, GENESIS.id))).sends == [
        Send((3,), (), Headers(headers[2:4], more=True)),
    ]
    assert node.on(3, Locate((blocks[2].id,))).sends == [Send((3,), (), Headers(headers[3:5]))]
    assert node.on(3, Locate((blocks[4].id,))).sends == ()
    turn = node.on(3, Locate((unrelated(1), unrelated(2))))
    assert turn.jobs == [Job((), ("fetch", 1), FetchBlocks(3, (unrelated(1), unrelated(2)), (), 2))]
    fetched = BlocksFetched(3, headers[:1], True, (blocks[0],))
    assert node.done(("fetch", 1), fetched).sends == [
        Send((3,), (), Headers(headers[:1], more=True)),
        Send((3,), (), GiveBlocks((blocks[0],))),
    ]
    assert node.on(3, WantBlocks((unrelated(3), blocks[0].id))).jobs == [
        Job((), ("fetch", 2), FetchBlocks(3, (), (unrelated(3),), 0)),
    ]


def test_when_there_are_more_headers_it_asks_on() -> None:
    node = ChainNode()
    blocks = line(GENESIS, 1, 3)
    turn = node.on(2, Headers(tuple(block.header for block in blocks), more=True))
    assert Send((2,), (), Locate((blocks[2].id, blocks[1].id, blocks[0].id, GENESIS.id))) in turn.sends


def test_a_wrong_header_is_blamed_and_an_early_one_is_not() -> None:
    node = ChainNode()
    child = next_header(GENESIS)
    poor = mined(replace(child, nonce=0), enough=False)
    [blame] = node.on(2, Headers((poor,))).blames
    assert (blame.node, blame.why) == (2, "showed a header: its hash is above its target")
    early = next_header(GENESIS, time_s=WALL_NS // 10**9 + FUTURE_S_MAX + 5)
    assert node.on(2, Headers((early,))).blames == ()
    assert early.id not in node.core.tree
    node.wall_ns += 5 * 10**9
    assert node.on(2, Headers((early,))).sends == [Send((2,), (), WantBlocks((early.id,)))]


def test_transactions_go_up_and_what_the_app_submits_goes_on() -> None:
    node = ChainNode()
    assert node.on(2, PassOn((b"a", b"b"))).outputs == [Offered(2, (b"a", b"b"))]
    assert node.step(Submitted((b"c",))).early == [Send((2, 3), (), PassOn((b"c",)))]


def test_a_heavier_branch_rewinds_and_extends_in_one_turn() -> None:
    node = ChainNode()
    here, there = line(GENESIS, 1, 2, b"here"), line(GENESIS, 1, 3, b"there")
    node.give(2, *here)
    node.execute_all()
    node.give(3, *there)
    assert node.execute().outputs == ()
    assert node.execute().outputs == (), "a tie is for what was there first"
    turn = node.execute()
    assert turn.outputs == [
        Rewound(GENESIS.id, (here[1].id, here[0].id)),
        *[Extended(block.id, height, block) for height, block in enumerate(there, 1)],
    ]
    assert turn.early == [Send((2, 3), (), Headers((there[2].header,)))]


def test_a_new_head_cancels_what_was_built_and_mined_on_the_old_one() -> None:
    node = ChainNode()
    [key] = node.jobs
    built = BlockBuilt(GENESIS.id, line(GENESIS, 1, 1)[0].payload, (b"main",))
    turn = node.done(key, built)
    [job] = turn.jobs
    assert isinstance(job.work, Mine)
    node.give(2, *line(GENESIS, 1, 1))
    turn = node.execute()
    assert Job((), ("mine", 1), None) in turn.jobs
    late = mined(job.work.draft)
    assert node.done(("mine", 1), Mined(late.nonce, late.time_s)).jobs == ()
    assert node.done(("build", 1), built).jobs == ()
    assert len(node.core.tree) == 2


def test_a_node_that_does_not_mine_builds_nothing() -> None:
    node = ChainNode(is_miner=False)
    node.give(2, *line(GENESIS, 1, 2))
    node.execute_all()
    assert node.jobs == {}
    assert node.core.tree[node.core.head].height == 2


# --- the store and what is forgotten ---


def test_a_flush_waits_until_its_blocks_are_durable() -> None:
    node = ChainNode(flush_blocks=2, is_miner=False)
    blocks = line(GENESIS, 1, 4)
    node.give(2, *blocks)
    node.execute()
    turn = node.execute()
    assert [record.value for record in turn.records] == [Flushing()]
    assert not turn.lazy
    assert Job((), "flush", FlushStore()) in turn.jobs
    node.execute_all()
    assert node.jobs == {"flush": FlushStore()}, "one at a time"
    assert node.done("flush", StoreFlushed(blocks[3].id)).jobs == ()
    assert node.core.flushed == blocks[3].id


def test_what_lies_deep_below_head_and_store_is_forgotten() -> None:
    node = ChainNode(flush_blocks=1, keep_blocks=2, is_miner=False)
    blocks = line(GENESIS, 1, 6)
    side = line(blocks[0].header, 2, 1, b"side")
    node.give(2, *blocks)
    node.give(2, *side)
    node.execute_all()
    node.done("flush", StoreFlushed(blocks[4].id))
    tree = node.core.tree
    assert tree.base == blocks[2].id
    assert sorted(tree.entries) == sorted(block.id for block in blocks[2:])
    assert next(iter(node.host.checkpoint())).value.base == tree.as_base()
    again = ChainNode([record.value for record in node.host.checkpoint()], stands=blocks[4].id, is_miner=False)
    assert again.core.tree.base == blocks[2].id
    assert [turn.outputs for turn in again.execute_all()] == [[Extended(blocks[5].id, 6, blocks[5])]]


# --- traps ---


def test_trap_1_no_invalid_block_is_ever_the_head() -> None:
    """Valid work on a payload that is not: nothing is handed up, children are condemned unexecuted, the liar blamed."""
    node = ChainNode(is_miner=False)
    good = line(GENESIS, 1, 1, b"good")
    bad = line(GENESIS, 1, 3, b"bad")
    node.give(3, *good)
    node.execute_all()
    node.give(2, *bad)
    turn = node.execute(BAD)
    assert turn.outputs == ()
    assert [record.value for record in turn.records] == [Condemned(bad[0].header)]
    assert [(blame.node, blame.why) for blame in turn.blames] == [
        (2, "announced an invalid block: it spends what is not there")
    ]
    assert node.jobs == {}
    assert [node.core.tree[block.id].status for block in bad] == [BlockStatus.INVALID] * 3
    assert node.core.head == good[0].id
    child = next_block(bad[2].header, 4)
    assert [blame.node for blame in node.on(2, Headers((child.header,))).blames] == [2]
    again = ChainNode(node.records, is_miner=False)
    assert again.core.tree[bad[0].id].status is BlockStatus.INVALID
    assert [turn.outputs for turn in again.execute_all()] == [[Extended(good[0].id, 1, good[0])]]
    compacted = ChainNode([record.value for record in node.host.checkpoint()], is_miner=False)
    assert compacted.on(2, Headers((bad[0].header,))).blames != ()


def test_trap_2_after_a_restart_the_head_is_where_the_store_is() -> None:
    """It crashes between a move of the head and the flush, in the middle of a reorganisation."""
    node = ChainNode(is_miner=False)
    here, there = line(GENESIS, 1, 2, b"here"), line(GENESIS, 1, 3, b"there")
    node.give(2, *here)
    node.execute_all()
    node.give(3, *there)
    node.execute_all()
    assert node.core.head == there[2].id
    for stands in (GENESIS.id, here[0].id, here[1].id, there[1].id):
        again = ChainNode(node.records, stands=stands, is_miner=False)
        assert again.core.head == stands
        turns = [again.began, *again.execute_all()]
        outputs = [output for turn in turns for output in turn.outputs]
        undone = [id for output in outputs if isinstance(output, Rewound) for id in output.ids]
        done = [output.id for output in outputs if isinstance(output, Extended)]
        _, undo, do = again.core.tree.path(stands, there[2].id)
        assert (undone, done) == (undo, do), "nothing is done twice, nothing left out"
        assert again.core.head == there[2].id


def test_trap_3_bodies_in_any_order_and_a_crash_after_each() -> None:
    blocks = line(GENESIS, 1, 20)
    shuffled = list(blocks)
    Random(5).shuffle(shuffled)
    node = ChainNode(is_miner=False)
    node.on(2, Headers(tuple(block.header for block in blocks[:16])))
    node.on(2, Headers(tuple(block.header for block in blocks[16:])))
    for _ in range(3):
        node.now += 10.0
        node.step(Fired("retry"))
    for count, block in enumerate(shuffled, 1):
        node.on(2, GiveBlocks((block,)))
        node.execute_all()
        again = ChainNode(node.records, is_miner=False)
        again.execute_all()
        assert tree_faults(again.core.tree) == []
        assert again.core.head == node.core.head
        whole = next(i for i in range(21) if i == 20 or blocks[i] not in shuffled[:count])
        assert again.core.tree[again.core.head].height == whole
    assert [record.block for record in node.records if isinstance(record, Arrived)] == blocks


def test_trap_4_the_store_may_stand_on_a_side_branch() -> None:
    """It is flushed there, the head goes elsewhere, and the tree forgets: what the store needs to come back is kept."""
    node = ChainNode(flush_blocks=1, keep_blocks=1, is_miner=False)
    stem, side = line(GENESIS, 1, 4), []
    node.give(2, *stem)
    side = line(stem[1].header, 3, 1, b"side")
    node.give(2, *side)
    node.execute_all()
    node.done("flush", StoreFlushed(side[0].id))  # it was the head when the flush began
    assert node.core.tree.base == stem[0].id
    assert side[0].id in node.core.tree
    again = ChainNode([record.value for record in node.host.checkpoint()], stands=side[0].id, is_miner=False)
    again.execute_all()
    assert again.core.head == stem[3].id


def test_trap_7_what_is_final_is_never_rewound_and_survives_a_crash() -> None:
    here, there = line(GENESIS, 1, 4, b"here"), line(GENESIS, 1, 9, b"there")
    for depth, follows in ((2, False), (None, True)):
        node = ChainNode(final_depth=depth, is_miner=False)
        node.give(2, *here)
        outputs = [output for turn in node.execute_all() for output in turn.outputs]
        final = [output for output in outputs if isinstance(output, Finalised)]
        assert final == ([] if depth is None else [Finalised(here[0].id, 1), Finalised(here[1].id, 2)])
        node.give(3, *there)
        node.execute_all()
        assert (node.core.head == there[8].id) is follows
        again = ChainNode(node.records, final_depth=depth, is_miner=False)
        again.execute_all()
        assert (again.core.head == there[8].id) is follows
        compacted = ChainNode([record.value for record in node.host.checkpoint()], final_depth=depth, is_miner=False)
        compacted.execute_all()
        assert (compacted.core.head == there[8].id) is follows


def test_what_is_final_is_durable_before_the_app_hears_of_it() -> None:
    node = ChainNode(final_depth=1, is_miner=False)
    blocks = line(GENESIS, 1, 2)
    node.give(2, *blocks)
    node.execute()
    turn = node.execute()
    assert turn.outputs == [Extended(blocks[1].id, 2, blocks[1]), Finalised(blocks[0].id, 1)]
    assert [record.value for record in turn.records] == [Settled(blocks[0].id)]
    assert not turn.lazy


def test_trap_8_a_bad_body_does_not_poison_a_good_header() -> None:
    node = ChainNode(is_miner=False)
    [block] = line(GENESIS, 1, 1)
    [other] = line(GENESIS, 1, 1, b"other")
    node.on(2, Headers((block.header,)))
    node.on(3, Headers((block.header,)))
    turn = node.on(2, GiveBlocks((wrong_body(block),)))
    assert [(blame.node, blame.why) for blame in turn.blames] == [
        (2, "gave a block: its transactions are not those of its payload")
    ]
    assert turn.sends == [Send((3,), (), WantBlocks((block.id,)))], "another is asked at once"
    swapped = LedgerBlock(block.header, other.payload, other.transactions)
    assert [blame.node for blame in node.on(2, GiveBlocks((swapped,))).blames] == [2]
    assert node.on(3, GiveBlocks((block,))).blames == ()
    assert node.execute().outputs == [Extended(block.id, 1, block)]


def test_trap_10_one_payload_under_two_seals() -> None:
    """Both live in the tree; a rewind between them takes back the one and does the other."""
    node = ChainNode(is_miner=False)
    [one] = line(GENESIS, 1, 1)
    twin = LedgerBlock(mined(replace(one.header, nonce=one.header.nonce + 1)), one.payload, one.transactions)
    assert one.id != twin.id
    node.give(2, one)
    node.execute_all()
    node.give(3, twin)
    node.execute_all()
    assert node.core.head == one.id
    [child] = line(twin.header, 2, 1)
    node.give(3, child)
    turn = node.execute_all()[-1]
    assert turn.outputs == [
        Rewound(GENESIS.id, (one.id,)),
        Extended(twin.id, 1, twin),
        Extended(child.id, 2, child),
    ]


# --- the rest ---


def test_what_was_not_built_or_mined_is_tried_again_later() -> None:
    for failing in ("build", "mine"):
        node = ChainNode()
        if failing == "mine":
            node.done(("build", 1), BlockBuilt(GENESIS.id, line(GENESIS, 1, 1)[0].payload, (b"main",)))
        turn = node.done((failing, 1), Failed("no worker"))
        assert [(timer.key, timer.at) for timer in turn.timers] == [("build", node.now + 1.0)]
        assert turn.jobs == ()
        assert [job.work for job in node.step(Fired("build")).jobs if job.work] == [
            BuildBlock(GENESIS.id, 1, WALL_NS // 10**9)
        ]
    node = ChainNode()
    with pytest.raises(AssertionError, match="does not do its part"):
        node.done("execute", Failed("?"))


def test_a_nonce_that_is_not_good_enough_is_not_believed() -> None:
    node = ChainNode()
    node.done(("build", 1), BlockBuilt(GENESIS.id, line(GENESIS, 1, 1)[0].payload, (b"main",)))
    poor = mined(node.jobs["mine", 1].draft, enough=False)
    turn = node.done(("mine", 1), Mined(poor.nonce, poor.time_s))
    assert [timer.key for timer in turn.timers] == ["build"]
    assert len(node.core.tree) == 1


def test_the_tip_is_repeated_to_somebody_but_not_the_first_block() -> None:
    node = ChainNode()
    assert node.step(Fired("tip")).early == ()
    [block] = line(GENESIS, 1, 1)
    node.give(2, block)
    node.execute()
    [send] = node.step(Fired("tip")).early
    assert send.message == Headers((block.header,))
    assert send.to in ((2,), (3,))


def test_limits_of_a_config() -> None:
    for wrong in ({"keep_blocks": 0}, {"headers_max": 5000}, {"tip_s": 0.0}, {"final_depth": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            NakamotoConfig(genesis=GENESIS, **wrong)  # type: ignore[arg-type]


def test_a_store_of_which_the_journal_knows_nothing_is_an_error() -> None:
    node = ChainNode(ready=False)
    with pytest.raises(AssertionError, match="the store stands at"):
        node.done("stand", Stood(unrelated(1)))


def test_checkpoints_hold_all_that_is_durable() -> None:
    node = ChainNode(is_miner=False, final_depth=2)
    node.give(2, *line(GENESIS, 1, 5))
    node.execute_all()
    node.give(3, *line(GENESIS, 1, 1, b"bad"))
    node.give(3, *line(GENESIS, 1, 2, b"side"))
    kinds = [type(record.value) for record in node.host.checkpoint()]
    assert kinds == [Based, *[Arrived] * 8, Settled]
    assert isinstance(node.core, Nakamoto)
