"""Headers of Bitcoin's main chain, as every explorer shows them; each one's hash shows that it is copied right."""

from quorate.ledger.header import LedgerHeader


def read(text: str) -> LedgerHeader:
    return LedgerHeader.decode(bytes.fromhex(text))


def shown(hash_: bytes) -> str:
    """As explorers print it."""
    return hash_[::-1].hex()


def hidden(text: str) -> bytes:
    """The other way."""
    return bytes.fromhex(text)[::-1]


FIRST = [
    read(
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3"
        "888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    ),
    read(
        "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3"
        "540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299"
    ),
    read(
        "010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5addedf24858b8bb665c9f"
        "36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd61"
    ),
    read(
        "01000000bddd99ccfda39da1b108ce1a5d70038d0a967bacb68b6b63065f626a0000000044f672226090d85db9a9f2fbfe5f0f9609b387af"
        "7be5b7fbb7a1767c831c9e995dbe6649ffff001d05e0ed6d"
    ),
]
"""Blocks 0 to 3."""
FIRST_HASHES = [
    "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
    "000000006a625f06636b8bb6ac7b960a8d03705d1ace08b1a19da3fdcc99ddbd",
    "0000000082b5015589a3fdf2d4baff403e6f0be035a5d9742c1cae6295464449",
]
BLOCK_125552 = read(
    "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b1eb942ae710e951ed797"
    "f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695"
)
HASH_125552 = "00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d"

ROOT_170 = "7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff"
TRANSACTIONS_170 = [
    "b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082",
    "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16",
]
ROOT_100000 = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"
TRANSACTIONS_100000 = [
    "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
    "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
    "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
    "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
]
