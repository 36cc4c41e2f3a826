"""Keys: who may sign, who checks, and a scheme that costs next to nothing for simulations.

How it works. A core gets its node's Keys: a Signer, which signs as that node, and a Keyring, which knows how to check
every node. Neither shows a secret, so a lying core with its own Keys can repeat what others signed but cannot sign as
them. What is signed is a message under a context, one context a message kind: a vote is never taken for a proposal of
the same bytes.

Everything that is signed or has a MAC names the cluster it is for, in one place, ``to_sign``. Signer, Keyring and Keys
are made for no cluster; ``within`` gives the same keys for one, and what they made in one counts in no other. So two
clusters may share keys, of nodes, clients and administrators. No core needs to know which cluster it is in. The
signature does not name the slot; a message that must not count in another one names it.

Who is no node, a client, signs too, and is known by its public key alone.

What other software must be able to check has a format of its own, which names its chain; it is signed as it is, by
``sign_canonical``. No such bytes begin like what ``to_sign`` makes.

A signature convinces everybody, a MAC only the one node that shares the secret, for a fiftieth of the time. Two nodes
agree on a secret by their keys. MACs are for what nobody ever shows to a third.

The real scheme, Ed25519, is in ``runtime/keys.py``. Symbolic here is for the simulator: its dealer holds all secrets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Annotated, Any, Final, Self, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from quorate.kernel import NodeId

CLUSTER_BYTES_MAX: Final = 1024
CONTEXT_BYTES_MAX: Final = 32
MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of what is signed. Sign the digest of something larger."""
SIGNATURE_BYTES_MAX: Final = 96
"""Ed25519 has 64, BLS12-381 has 48 or 96."""
BATCH_ITEMS_MAX: Final = 63
"""As many as a mask of 64 bits without a sign can say something about."""

MAC_BYTES: Final = 16
STRANGERS_MAX: Final = 4096
"""Public keys of clients whose Verifier a Keyring keeps ready."""

Public: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=64)]
"""A public key. Ed25519 has 32 bytes."""
Mac: TypeAlias = Annotated[bytes, Meta(max_length=MAC_BYTES)]
Context: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CONTEXT_BYTES_MAX)]
Signature: TypeAlias = Annotated[bytes, Meta(max_length=SIGNATURE_BYTES_MAX)]

_PREFIX: Final = b"quorate signed\0"


def to_sign(cluster: str, context: str, message: bytes) -> bytes:
    """What a scheme signs. No two triples of cluster, context and message give the same bytes.

    Raises ValueError for a name of more than 1 KiB, a context that is not 1 to 32 characters of ASCII, or a message of
    more than 1 MiB.
    """
    if len(message) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{len(message)} bytes to sign, at most {MESSAGE_BYTES_MAX}: sign their digest")
    return _head(cluster, context) + message


@lru_cache(maxsize=256)
def _head(cluster: str, context: str) -> bytes:
    """What stands before a message: the same for many."""
    name = cluster.encode()
    if len(name) > CLUSTER_BYTES_MAX:
        raise ValueError(f"the name of a cluster has at most {CLUSTER_BYTES_MAX} bytes: {cluster[:40]!r}...")
    if not (1 <= len(context) <= CONTEXT_BYTES_MAX and context.isascii()):
        raise ValueError(f"a context has 1 to {CONTEXT_BYTES_MAX} characters of ASCII: {context[:40]!r}")
    return b"%b%b%b%c%b" % (_PREFIX, len(name).to_bytes(2, "big"), name, len(context), context.encode())


class _Shared:
    """Never changes, so the copy of a Host shares it. Its repr shows no secret."""

    cluster: str = ""
    """What it signs and checks is for this cluster."""

    def within(self, cluster: str) -> Self:
        """The same for a cluster. Raises ValueError for a name that is too long."""
        to_sign(cluster, "name", b"")
        made = copy(self)
        made.cluster = cluster
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class Signer(_Shared, ABC):
    """Signs as one node, or as a client (``node`` is None)."""

    node: int | None

    @property
    @abstractmethod
    def public(self) -> bytes:
        """The public key that belongs to it."""

    @abstractmethod
    def agree(self, public: bytes) -> bytes:
        """The secret of 32 bytes that this key shares with the owner of that one. Raises ValueError for no key."""

    def sign(self, context: str, message: bytes) -> bytes:
        """The signature of the message under the context. Raises ValueError as ``to_sign`` does."""
        return self._sign(to_sign(self.cluster, context, message))

    def sign_canonical(self, data: bytes) -> bytes:
        """The signature of bytes as they are: a format of others, which says itself for which chain it is."""
        assert not data.startswith(_PREFIX), "this would pass for what is signed under a context"
        return self._sign_canonical(data)

    @abstractmethod
    def _sign(self, data: bytes) -> bytes: ...

    def _sign_canonical(self, data: bytes) -> bytes:
        """With 64 bytes, as that of Ed25519."""
        return self._sign(data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node})"


class Verifier(ABC):
    """Checks the signatures of one node, in whichever cluster. Never changes."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    @property
    @abstractmethod
    def public(self) -> bytes:
        """What tells this key from others."""

    @abstractmethod
    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature is this node's, of exactly what ``to_sign`` made. Never raises, whatever the bytes."""

    def verify_canonical(self, data: bytes, signature: bytes) -> bool:
        """The same for what ``sign_canonical`` signed, by the rules that everybody has who checks that."""
        return self.verify(data, signature)


class Signed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A claim: this node, or the owner of this public key, signed this message under this context."""

    signer: NodeId | Public
    context: Context
    message: Annotated[bytes, Meta(max_length=MESSAGE_BYTES_MAX)]
    signature: Signature


class VerifyBatch(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A job: check these claims off the loop, with ``Keyring.verify_batch``. Result: Verified.

    Raises ValueError for more than 63 of them; ``batches`` makes as many jobs as it takes.
    """

    items: Annotated[tuple[Signed, ...], Meta(max_length=BATCH_ITEMS_MAX)]

    def __post_init__(self) -> None:
        if len(self.items) > BATCH_ITEMS_MAX:
            raise ValueError(f"{len(self.items)} claims in a batch, at most {BATCH_ITEMS_MAX}")


class Verified(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """The result of a VerifyBatch: bit i is set where item i holds."""

    mask: Annotated[int, Meta(ge=0, le=2**BATCH_ITEMS_MAX - 1)]


def batches(items: Sequence[Signed]) -> Iterator[VerifyBatch]:
    """The claims, in order, in jobs of at most 63."""
    for start in range(0, len(items), BATCH_ITEMS_MAX):
        yield VerifyBatch(tuple(items[start : start + BATCH_ITEMS_MAX]))


class Keyring(_Shared):
    """How to check every node's signatures; with ``stranger``, which makes a Verifier of a public key, clients' too."""

    def __init__(
        self,
        verifiers: Mapping[int, Verifier],
        stranger: Callable[[bytes], Verifier] | None = None,
        cluster: str = "",
    ) -> None:
        """Raises ValueError where two nodes have one key: one node would count as two."""
        self.cluster = cluster
        self._verifiers = dict(sorted(verifiers.items()))
        self._stranger = stranger
        self._strangers: dict[bytes, Verifier | None] = {}
        owners: dict[bytes, int] = {}
        for node, verifier in self._verifiers.items():
            if owners.setdefault(verifier.public, node) != node:
                raise ValueError(f"nodes {owners[verifier.public]} and {node} have the same key: give each its own")

    def __repr__(self) -> str:
        return f"Keyring({list(self._verifiers)})"

    def knowing(self, node: int, public: bytes) -> Keyring:
        """The same with one node more. Raises ValueError for what is not a key, and for one that is another node's.

        Also for a node that has another key here: which of the two is right, nobody can tell.
        """
        known = self._verifiers.get(node)
        if known is not None:
            if known.public != public:
                raise ValueError(f"the keyring has another public key for node {node}")
            return self
        if self._stranger is None:
            raise ValueError("this keyring takes no more keys")
        return Keyring({**self._verifiers, node: self._stranger(public)}, self._stranger, self.cluster)

    def is_key(self, public: bytes) -> bool:
        """Whether somebody could sign with the key that this belongs to."""
        return self._of_stranger(public) is not None

    @property
    def nodes(self) -> tuple[int, ...]:
        """Whose signatures it can check, ascending."""
        return tuple(self._verifiers)

    def has(self, node: int) -> bool:
        """Whether it is one of these."""
        return node in self._verifiers

    def public(self, node: int) -> bytes:
        """A node's public key. Raises KeyError for one that is not here."""
        return self._verifiers[node].public

    def verify(self, signer: int | bytes, context: str, message: bytes, signature: bytes) -> bool:
        """Whether the node, or the owner of the public key, signed the message under the context.

        False, and no exception, for whatever is amiss.
        """
        verifier = self._of_stranger(signer) if isinstance(signer, bytes) else self._verifiers.get(signer)
        if verifier is None or len(signature) > SIGNATURE_BYTES_MAX:
            return False
        try:
            data = to_sign(self.cluster, context, message)
        except ValueError:
            return False
        return verifier.verify(data, signature)

    def verify_canonical(self, signer: int | bytes, data: bytes, signature: bytes) -> bool:
        """Whether the node, or the owner of the public key, signed these bytes as they are. It never raises."""
        verifier = self._of_stranger(signer) if isinstance(signer, bytes) else self._verifiers.get(signer)
        return verifier is not None and verifier.verify_canonical(data, signature)

    def by_key(self, claims: Iterable[Signed]) -> list[Signed]:
        """The claims with the nodes' public keys in place of their numbers: a job's keyring knows no newcomers.

        A node that this keyring does not know either keeps its number, and nothing that it claims holds.
        """
        return [
            replace(claim, signer=self._verifiers[claim.signer].public)
            if isinstance(claim.signer, int) and claim.signer in self._verifiers
            else claim
            for claim in claims
        ]

    def verify_batch(self, batch: VerifyBatch) -> Verified:
        """Do the job, in whichever thread this is called."""
        mask = 0
        for position, item in enumerate(batch.items):
            mask |= self.verify(item.signer, item.context, item.message, item.signature) << position
        return Verified(mask)

    def _of_stranger(self, public: bytes) -> Verifier | None:
        known = self._strangers.get(public)
        if known is not None or self._stranger is None or public in self._strangers:
            return known
        try:
            made = self._stranger(public)
        except ValueError:
            made = None
        if len(self._strangers) >= STRANGERS_MAX:
            self._strangers.clear()
        self._strangers[public] = made
        return made


class Keys(_Shared):
    """What one node holds: a Signer of its own, the Keyring, and a secret with each other node."""

    def __init__(self, signer: Signer, keyring: Keyring) -> None:
        """Raises ValueError where the keyring has not this node, has another key for it, or is for another cluster."""
        node = signer.node
        if node is None or node not in keyring.nodes:
            raise ValueError(f"the keyring has no key for node {node}")
        if keyring.public(node) != signer.public:
            raise ValueError(f"the keyring has another public key for node {node} than the private key belongs to")
        if keyring.cluster != signer.cluster:
            raise ValueError(f"a signer for {signer.cluster!r}, and a keyring for {keyring.cluster!r}")
        self.node: int = node
        self.cluster = keyring.cluster
        self.keyring = keyring
        self._signer = signer
        self._secrets: dict[int, bytes] = {}

    def within(self, cluster: str) -> Keys:
        """As the base says."""
        return Keys(self._signer.within(cluster), self.keyring.within(cluster))

    def knowing(self, node: int, public: bytes) -> Keys:
        """The same with one node more in the keyring. Raises ValueError as ``Keyring.knowing`` does."""
        keyring = self.keyring.knowing(node, public)
        if keyring is self.keyring:
            return self
        keys = copy(self)  # with the same secrets: those of nodes and public keys, which never change
        keys.keyring = keyring
        return keys

    @property
    def public(self) -> bytes:
        """This node's public key."""
        return self._signer.public

    def __repr__(self) -> str:
        return f"Keys({self.node})"

    def sign(self, context: str, message: bytes) -> bytes:
        """This node's signature. Raises ValueError as ``to_sign`` does."""
        return self._signer.sign(context, message)

    def sign_canonical(self, data: bytes) -> bytes:
        """This node's signature, as ``Signer.sign_canonical``."""
        return self._signer.sign_canonical(data)

    def verify(self, signer: int | bytes, context: str, message: bytes, signature: bytes) -> bool:
        """As ``Keyring.verify``."""
        return self.keyring.verify(signer, context, message, signature)

    def verify_canonical(self, signer: int | bytes, data: bytes, signature: bytes) -> bool:
        """As ``Keyring.verify_canonical``."""
        return self.keyring.verify_canonical(signer, data, signature)

    def macs(self, context: str, message: bytes, nodes: Sequence[int]) -> tuple[bytes, ...]:
        """A MAC for each node, in order. Raises ValueError as ``to_sign`` does, KeyError for an unknown one."""
        data = to_sign(self.cluster, context, message)
        return tuple([_mac(self._secret(node), self.node, data) for node in nodes])

    def verify_mac(self, sender: int, context: str, message: bytes, mac: bytes) -> bool:
        """Whether that node made this MAC for this one. False, and no exception, for whatever is amiss."""
        return self.has_mac(sender, context, message, (mac,))

    def has_mac(self, sender: int, context: str, message: bytes, macs: Sequence[bytes]) -> bool:
        """Whether one of these MACs is what that node made for this one."""
        if not self.keyring.has(sender):
            return False
        try:
            data = to_sign(self.cluster, context, message)
        except ValueError:
            return False
        mine = _mac(self._secret(sender), sender, data)
        return any(compare_digest(mine, mac) for mac in macs)

    def _secret(self, node: int) -> bytes:
        secret = self._secrets.get(node)
        if secret is None:
            secret = self._secrets[node] = self._signer.agree(self.keyring.public(node))
        return secret


def _mac(secret: bytes, sender: int, data: bytes) -> bytes:
    """The salt is the sender, so that what one made is not what the other would."""
    return blake2b(
        data, key=secret, digest_size=MAC_BYTES, salt=sender.to_bytes(2, "big"), person=b"quorate mac"
    ).digest()


class Scheme(ABC):
    """The keys of a whole group, made in one place: for simulations and tests. Real nodes read theirs from files.

    They are for ``cluster``.
    """

    cluster: str = ""

    @abstractmethod
    def signer(self, node: int) -> Signer:
        """What this node alone may hold. Raises KeyError for a stranger."""

    @abstractmethod
    def keyring(self) -> Keyring:
        """What every node may hold."""

    @abstractmethod
    def client(self, number: int) -> Signer:
        """What this client alone may hold; there is one for every number."""

    def join(self, node: int) -> None:
        """Make keys for one node more. ``keyring`` stays as it is: the others learn of the key by their protocol."""
        raise NotImplementedError(f"{type(self).__name__} is for the nodes that it was made with")

    def keys(self, node: int) -> Keys:
        """All that this node holds. Raises KeyError for a stranger."""
        return Keys(self.signer(node), self.keyring())


class Symbolic(Scheme):
    """A dealer whose signatures are keyed BLAKE2b: cheap, the same in every run, and not to be guessed.

    Signing and checking use the same secret, so this is safe only where the dealer and the keyring keep it to
    themselves: in one process, among cores that use what they were handed through its public methods.
    """

    def __init__(self, nodes: Iterable[int], seed: bytes = b"", cluster: str = "") -> None:
        self.cluster = cluster
        self._seed = seed
        self._secrets: dict[bytes, bytes] = {}
        """By public key, of all that were ever made."""
        self._signers = {node: self._make(node, b"%d" % node) for node in nodes}
        self._keyring = self._keyring_now()
        self._keyrings: dict[int, Keyring] = {}
        """What those that joined were given, each at its time."""

    def join(self, node: int) -> None:
        """Make keys for one node more: its own keyring has those of all nodes so far, theirs stay as they are.

        Raises ValueError for one that has keys.
        """
        if node in self._signers:
            raise ValueError(f"node {node} has keys already")
        self._signers[node] = self._make(node, b"%d" % node)
        self._keyrings[node] = self._keyring_now()

    def keys(self, node: int) -> Keys:
        """As the base says."""
        return Keys(self.signer(node), self._keyrings.get(node, self._keyring))

    def _keyring_now(self) -> Keyring:
        verifiers = {node: _SymbolicVerifier(signer.secret) for node, signer in self._signers.items()}
        return Keyring(verifiers, self._stranger, self.cluster)

    def signer(self, node: int) -> Signer:
        """As the base says."""
        return self._signers[node].within(self.cluster)

    def keyring(self) -> Keyring:
        """As the base says."""
        return self._keyring

    def client(self, number: int) -> Signer:
        """As the base says."""
        return self._make(None, b"client %d" % number).within(self.cluster)

    def _make(self, node: int | None, name: bytes) -> _SymbolicSigner:
        secret = blake2b(name, key=blake2b(self._seed).digest(), digest_size=32).digest()
        self._secrets[_public_of(secret)] = secret
        return _SymbolicSigner(node, secret, self._secrets)

    def _stranger(self, public: bytes) -> Verifier:
        if public not in self._secrets:
            raise ValueError("nobody has this key")
        return _SymbolicVerifier(self._secrets[public])


def _public_of(secret: bytes) -> bytes:
    return blake2b(secret, digest_size=32, person=b"public").digest()


class _SymbolicSigner(Signer):
    def __init__(self, node: int | None, secret: bytes, secrets: Mapping[bytes, bytes]) -> None:
        self.node = node
        self.secret = secret
        self._secrets = secrets

    @property
    def public(self) -> bytes:
        return _public_of(self.secret)

    def agree(self, public: bytes) -> bytes:
        if public not in self._secrets:
            raise ValueError("nobody has this key")
        pair = sorted((self.secret, self._secrets[public]))
        return blake2b(b"".join(pair), digest_size=32, person=b"agreed").digest()

    def _sign(self, data: bytes) -> bytes:
        return blake2b(data, key=self.secret, digest_size=32).digest()

    def _sign_canonical(self, data: bytes) -> bytes:
        return blake2b(data, key=self.secret, digest_size=64).digest()


class _SymbolicVerifier(Verifier):
    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @property
    def public(self) -> bytes:
        return _public_of(self._secret)

    def verify(self, data: bytes, signature: bytes) -> bool:
        return compare_digest(blake2b(data, key=self._secret, digest_size=32).digest(), signature)

    def verify_canonical(self, data: bytes, signature: bytes) -> bool:
        return compare_digest(blake2b(data, key=self._secret, digest_size=64).digest(), signature)
