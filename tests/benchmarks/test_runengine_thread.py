"""The benchmark of the RunEngine's thread runs."""

import logging
import re

import pytest

from tests.benchmarks import runengine_thread


@pytest.fixture
def _logging_on_again():
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("_logging_on_again")
def test_it_prints_a_median_for_each_kind_of_document(capsys):
    runengine_thread.main(["--events", "5"])
    printed = capsys.readouterr().out
    assert len(re.findall(r"median [\d.]+ ms", printed)) == 3
