"""Who may import whom: the layers, the kernel's few friends, the only places with sockets and threads."""

from collections.abc import Iterator

from .tree import PURE_LAYERS, Violation, imports_of, is_equipment, is_equipment_module, layer_of

# A protocol's test equipment is a layer above its folder's: it may import the simulator, where the bases of checkers,
# mutants and liars are.
EQUIPMENT_BELOW = ("kernel", "parts", "ledger", "protocols", "sim")
MAY_TEST = frozenset({"trials"})
"""Who may import test equipment, beside equipment itself."""

# A layer may import itself and these. The package's root ("") is the front door and may import anything.
BELOW = {
    "kernel": (),
    "parts": ("kernel",),
    "ledger": ("kernel", "parts"),
    "protocols": ("kernel", "parts", "ledger"),
    "sim": ("kernel", "parts"),
    "runtime": ("kernel", "parts"),
    "machines": ("kernel", "parts", "ledger"),
    "objects": ("kernel", "parts", "machines"),
    "service": ("kernel", "parts", "ledger", "protocols", "runtime", "machines"),
    "trials": ("kernel", "parts", "ledger", "protocols", "sim", "runtime", "machines", "service"),
    "cli": ("kernel", "parts", "ledger", "protocols", "sim", "runtime", "machines", "service", "trials"),
}

KERNEL_MAY_IMPORT = frozenset(
    [
        "__future__",
        "abc",
        "bisect",
        "collections",
        "contextlib",
        "copy",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "inspect",
        "itertools",
        "keyword",
        "math",
        "msgspec",
        "operator",
        "re",
        "reprlib",
        "string",
        "struct",
        "types",
        "typing",
        "zlib",
    ]
)

IMPURE = frozenset(
    [
        "_thread",
        "asyncio",
        "builtins",
        "concurrent",
        "datetime",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uuid",
        "uvloop",
    ]
)
WAITING = frozenset(
    ["_thread", "asyncio", "selectors", "select", "socket", "socketserver", "ssl", "threading", "uvloop"]
)
MAY_WAIT = frozenset({"runtime", "machines", "service", "cli"})

SERIALIZERS = frozenset(["pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"])


def layers(path: str, source: str) -> Iterator[Violation]:
    """Imports inside the package go downwards only, under TYPE_CHECKING too."""
    layer = layer_of(path)
    if not layer:
        return
    may = EQUIPMENT_BELOW if is_equipment(path) else BELOW.get(layer, ())
    allowed = {layer, *may}
    for found in imports_of(path, source):
        dotted = found.target.split(".")
        if dotted[0] != "quorate":
            continue
        below = dotted[1] if len(dotted) > 1 else ""
        if layer not in BELOW:
            what, cure = f"the layer {layer} is not in the design", "put the file in a layer that is"
        elif below in BELOW and below not in allowed:
            what = f"{layer} imports {found.target}"
            cure = f"{layer} may import {', '.join(may) or 'no other layer'}; pass the rest in as an argument"
        elif below not in BELOW and layer not in ("service", "trials", "cli"):
            what, cure = f"{layer} imports the package's root", "import the module that defines the name"
        else:
            continue
        yield Violation(path, found.line, "layers", what, cure)


def equipment_imports(path: str, source: str) -> Iterator[Violation]:
    """Mutants, liars, invariants and simulation configs of a protocol are loaded by trials alone."""
    layer = layer_of(path)
    if layer is None or layer in MAY_TEST or is_equipment(path):
        return
    for found in imports_of(path, source):
        if is_equipment_module(found.target):
            cure = "leave it to quorate.trials, which finds a protocol's equipment by its entry"
            what = f"{layer or 'the root'} imports {found.target}, which is test equipment"
            yield Violation(path, found.line, "equipment-imports", what, cure)


def kernel_imports(path: str, source: str) -> Iterator[Violation]:
    """The kernel imports a few modules of the standard library, and msgspec."""
    if layer_of(path) != "kernel":
        return
    for found in imports_of(path, source):
        top = found.module.split(".")[0]
        if top not in KERNEL_MAY_IMPORT and top != "quorate":
            cure = "do without, or argue for it and add it to KERNEL_MAY_IMPORT in tests/tidy/imports.py"
            yield Violation(path, found.line, "kernel-imports", f"the kernel imports {top}", cure)


def pure_imports(path: str, source: str) -> Iterator[Violation]:
    """Cores and parts see the world through Env alone: no clock, no randomness, no I/O, no threads."""
    layer = layer_of(path)
    if layer not in PURE_LAYERS:
        return
    for found in imports_of(path, source):
        top = found.module.split(".")[0]
        if top in IMPURE:
            cure = "use the Env: env.now, env.rng, env.set_timer, env.send, env.work"
            yield Violation(path, found.line, "pure-imports", f"{layer} imports {top}", cure)


def waiting_imports(path: str, source: str) -> Iterator[Violation]:
    """asyncio, sockets and threads live in runtime, service and cli; in the simulator there are none."""
    layer = layer_of(path)
    if layer is None or layer in MAY_WAIT or layer in PURE_LAYERS:  # pure_imports looks at the pure ones
        return
    for found in imports_of(path, source):
        top = found.module.split(".")[0]
        if top in WAITING:
            what = f"{layer or 'the root'} imports {top}"
            yield Violation(path, found.line, "waiting-imports", what, "move that code to runtime, service or cli")


def serializers(path: str, source: str) -> Iterator[Violation]:
    """No serializer that can run code when it reads."""
    for found in imports_of(path, source):
        top = found.module.split(".")[0]
        if top in SERIALIZERS:
            cure = "use msgspec; bytes from a wire or a disk must not be able to run code"
            yield Violation(path, found.line, "serializers", f"imports {top}", cure)
