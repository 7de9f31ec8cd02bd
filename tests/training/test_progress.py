from rich.progress import Progress

from coat.training.progress import watch_for


def test_a_job_whose_length_becomes_known_ends_with_a_full_bar():
    """The arm that is not trained has no steps, and is done all the same."""
    progress = Progress(disable=True)
    watch = watch_for(progress)
    watch("as it is", 0, 0, "answers questions")
    (task,) = progress.tasks
    assert task.total is None
    watch("as it is", 1, 1, "done")
    assert task.finished
    assert task.fields["note"] == "done"
    watch("CoAT", 3, 10, "")
    assert progress.tasks[1].percentage == 30
