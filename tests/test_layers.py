"""The order of the layers, read from the imports."""

import ast
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mixef

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mixef.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: From the bottom up: a module imports from its own layer and from those before it. Modules and
#: packages by name; the first entry that fits a module is its layer.
LAYERS = (
    ("errors",),
    ("late",),
    ("memory",),
    ("progress",),
    ("checks",),
    ("text",),
    ("hints",),
    ("control",),
    ("families",),
    ("datasets",),
    ("terms",),
    ("linalg",),
    ("estimation",),
    ("arguments",),
    ("inference",),
    ("plots",),
    ("methods",),
    ("mixedmodel",),
    ("lmm", "glmm"),
    ("functions",),
    ("sklearn",),
    ("__init__",),
)

#: The order inside a layer, where a reader needs one. Modules that are not listed may stand
#: anywhere, as long as nothing is circular.
SPINES = {
    "terms": (
        "covariance", "nodes", "parser", "algebra", "formula", "labels", "factor", "exact",
        "sources", "convert", "columns", "values", "operators", "recoding", "splines", "functions",
        "outside", "expressions", "rows", "needed", "frame", "contrasts", "grouping", "fixed",
        "parametrization", "random",
    ),
    "linalg": (
        "layout", "small", "rows", "level_sums", "pairs", "crossproducts", "patterned",
        "reweighted", "threads", "factor", "minimum_degree", "sparse_loops", "kernels",
        "coupling", "remainder", "dense",
        "schur", "flat_tree", "boundary", "ordering", "sparse_factor", "cholmod", "simplicial",
        "choose", "standardize", "sources", "chunks", "chunk_pairs", "chunk_rows", "spool",
    ),
    "estimation": (
        "columns", "scaling", "estimates", "search.trust_region",
        "search.optimize", "search.scipy_search", "search.hessian",
        "search.convergence", "search.singular", "search.certified", "spec", "fit",
        "linear.moments", "linear.marginal", "linear.pls", "linear.problem", "linear.criterion",
        "linear.kind", "many.model", "many.criterion", "many.search", "many.fits",
        "generalized.row_derivatives", "generalized.response", "generalized.density_response",
        "generalized.user_density", "generalized.passes", "generalized.pirls",
        "generalized.levels", "generalized.curvature", "generalized.crossed_hessian",
        "generalized.effects", "generalized.laplace", "generalized.laplace_error",
        "generalized.estimated_laplace", "generalized.quadrature", "generalized.glm",
        "generalized.problem", "generalized.criterion", "generalized.streamed_model",
        "generalized.streamed_glm", "generalized.streamed_start", "generalized.streamed_laplace",
        "generalized.collapse", "generalized.separation", "many.by_group", "generalized.ends",
        "generalized.streamed_separation", "generalized.streamed_criterion",
        "generalized.estimated_criterion", "generalized.spread", "generalized.cells",
        "generalized.checked", "generalized.kind",
        "profile.full_deviance", "profile.constrained",
    ),
}  # fmt: skip

#: Packages that may be imported inside a function: those whose start takes long and that most
#: sessions do without (numba, and what long work needs), and extras.
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LATE = {"numba", "joblib", "tqdm", "sksparse"} | {
    requirement.split(">")[0]
    for extra, requirements in EXTRAS.items()
    if extra not in ("dev", "docs")
    for requirement in requirements
}


def module_of(path):
    """``terms.frame`` of terms/frame.py; a package's own file goes by its name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in FILES}


@cache
def parsed(path):
    return ast.parse(path.read_text())


@cache
def all_imports(path):
    """The names that a file imports, wherever in the file, and whether it does for types alone."""
    out = []
    for statement in parsed(path).body:
        for node in ast.walk(statement):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import, which hides its layer"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif loaded := loads(node):
                names = [loaded]
            out += [(name, is_for_types(statement)) for name in names]
    return out


def loads(node):
    """The module that a call of `late.load` names."""
    is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load"
    return node.args[0].value if is_call and isinstance(node.args[0], ast.Constant) else None


def imported(module):
    """The other modules of mixef that one imports, but for types alone."""
    names = [name for name, for_types in all_imports(MODULES[module]) if not for_types]
    return set(map(own_module, names)) - {module, None}


def is_for_types(node):
    """Whether a statement is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def own_module(name):
    """The module of mixef that an imported name belongs to: the longest that there is."""
    parts = name.split(".")
    if parts[0] != "mixef":
        return None
    for end in range(len(parts), 1, -1):
        if (module := ".".join(parts[1:end])) in MODULES:
            return module
    return "__init__"


def layer_of(module):
    for height, members in enumerate(LAYERS):
        if any(module == m or module.startswith(m + ".") for m in members):
            return height
    raise AssertionError(f"{module} belongs to no layer; give it one in LAYERS")


def test_imports_go_down():
    for module in MODULES:
        own = layer_of(module)
        above = [other for other in imported(module) if layer_of(other) > own]
        assert not above, f"{module} imports from layers above it: {above}"


@pytest.mark.parametrize("layer", SPINES)
def test_the_order_inside_a_layer(layer):
    spine = [f"{layer}.{name}" for name in SPINES[layer]]
    assert set(spine) <= set(MODULES)
    for place, module in enumerate(spine):
        late = imported(module) & set(spine[place:])
        assert not late, f"{module} imports {sorted(late)}, which come after it"


#: The folders of the inference layer, from the bottom up.
FOLDERS = (
    "refits", "hypotheses", "prediction", "simulation", "resampling", "influence", "intervals",
    "tables", "diagnostics", "marginal",
)  # fmt: skip


def test_the_order_of_the_folders_of_inference():
    for place, folder in enumerate(FOLDERS):
        late = tuple(f"inference.{name}." for name in FOLDERS[place + 1 :])
        members = [m for m in MODULES if m.startswith(f"inference.{folder}.")]
        assert members
        for module in members:
            found = [other for other in imported(module) if other.startswith(late)]
            assert not found, f"{module} imports {found}, which come after it"


def test_nothing_is_circular():
    graph = {module: imported(module) for module in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_linear_algebra_knows_no_terms():
    for module in MODULES:
        if module.startswith("linalg"):
            assert not any(other.startswith("terms") for other in imported(module)), module


#: What loads where something is first asked for: public names, and modules that a first fit does
#: not need. Their imports stand at the top of a file like all others.
DOORS = ("__init__", "late")


def inside_functions(module):
    """The nodes of a file's syntax that are inside of a function."""
    waiting = [parsed(MODULES[module])]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                yield from ast.walk(node)
            else:
                waiting.append(node)


def test_no_import_hides_in_a_function():
    modules = [module for module in MODULES if module not in DOORS]
    for module, node in ((m, node) for m in modules for node in inside_functions(m)):
        if isinstance(node, ast.Import):
            hidden = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            hidden = {node.module.split(".")[0]}
        elif loaded := loads(node):
            hidden = {loaded.split(".")[0]}
        else:
            name = getattr(node, "attr", getattr(node, "id", ""))
            assert name not in ("import_module", "__import__"), f"{module}: {name}"
            continue
        assert hidden <= LATE, f"{module}: {hidden} is imported at line {node.lineno}"


def test_one_file_knows_scikit_sparse_and_one_knows_numba():
    for library, home in [("sksparse", "linalg.cholmod"), ("numba", "linalg.kernels")]:
        names = {m: [name.split(".")[0] for name, _ in all_imports(p)] for m, p in MODULES.items()}
        assert {module for module, own in names.items() if library in own} == {home}


def test_a_file_reads_in_one_sitting():
    long = [m for m, path in MODULES.items() if len(path.read_text().splitlines()) > 450]
    assert not long


def test_the_rules_see_a_breach(tmp_path, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from mixef.lmm import lmer\n    import mixef.terms.frame\n")
    assert {own_module("mixef.lmm.lmer"), own_module("mixef.terms.frame")} == {"lmm", "terms.frame"}
    monkeypatch.setitem(MODULES, "linalg.bad", bad)
    assert imported("linalg.bad") == {"lmm", "terms.frame"}
    with pytest.raises(AssertionError, match="imports from layers above it"):
        test_imports_go_down()
    with pytest.raises(AssertionError, match="imported at line 2"):
        test_no_import_hides_in_a_function()
