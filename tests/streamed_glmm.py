"""Generalized models whose rows come in uneven chunks, beside the same rows in memory."""

from dataclasses import replace

from mixef.estimation.generalized.streamed_criterion import StreamedCriterion
from mixef.estimation.generalized.streamed_start import streamed_problem
from mixef.families.convert import make_family
from mixef.linalg.chunks import Looped
from mixef.linalg.sources import Chunk
from mixef.terms.fixed import design
from mixef.terms.formula import parse_formula
from mixef.terms.frame import model_frame
from mixef.terms.outcome import outcome
from mixef.terms.random import block_structure, random_terms

SIZES = (7, 23, 1, 40, 19)


class Pieces:
    """A model's rows in chunks of uneven sizes; it pickles."""

    def __init__(self, formula, data, family, weights=None, offset=None, sizes=SIZES):
        frame = model_frame(parse_formula(formula), data, weights=weights, offset=offset)
        got = outcome(frame, make_family(family))
        terms = random_terms(frame, None)
        blocks, _ = block_structure(terms)
        X = design(frame.fixed_terms, frame, None).matrix
        self.whole = Chunk(
            X,
            got.y,
            tuple(term.z for term in terms),
            tuple(terms[members[0]].grouping.codes for members in blocks),
            got.weights,
            frame.offset,
            got.copies,
        )
        self.terms, self.sizes = without_rows(terms), sizes

    def __call__(self):
        start, k = 0, 0
        while start < len(self.whole.y):
            rows = slice(start, start + self.sizes[k % len(self.sizes)])
            yield rows_of(self.whole, rows)
            start, k = rows.stop, k + 1


def rows_of(chunk, rows):
    def part(values):
        return None if values is None else values[rows].copy()

    return Chunk(
        part(chunk.X),
        part(chunk.y),
        tuple(map(part, chunk.z)),
        tuple(map(part, chunk.codes)),
        part(chunk.weights),
        part(chunk.offset),
        part(chunk.copies),
    )


def without_rows(terms):
    """The terms as a source has them: their structure and levels, and no rows."""
    return [
        replace(t, design=t.design.with_matrix(t.z[:0]),
                grouping=replace(t.grouping, codes=t.grouping.codes[:0]))
        for t in terms
    ]  # fmt: skip


def streamed(
    formula, data, family, nAGQ=1, weights=None, offset=None, information=None, sizes=SIZES
):
    """The criterion of a model whose rows come in chunks."""
    pieces = Pieces(formula, data, family, weights, offset, sizes)
    source = Looped(pieces)
    problem = streamed_problem(source, pieces.terms, make_family(family), nAGQ, information)
    return StreamedCriterion(problem)
