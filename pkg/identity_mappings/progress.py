"""What a person sees while runs train: a bar per run on a terminal, a line per point of its curve elsewhere."""

import sys
from contextlib import suppress


class Lines:
    """A line for each entry of a run's curve, to a stream."""

    def __init__(self, stream=None):
        self.stream, self.started = stream or sys.stdout, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, event):
        name, done, seconds = event["run"], event["iteration"], event["seconds"]
        if event["kind"] == "start":
            self.started[name] = done, seconds
            begun = f"resumed at iteration {done}" if done else "started"
            print(f"{name}: {begun}", file=self.stream, flush=True)
        elif event["kind"] == "note":
            print(event["line"], file=self.stream, flush=True)
        elif event["kind"] == "entry":
            print(f"{name}: {self.status(event)}", file=self.stream, flush=True)

    def status(self, event):
        done, total = event["iteration"], event["iterations"]
        if event["train_loss"] is None:
            return f"iteration {done}/{total}, the loss is not finite: diverged"
        first, before = self.started[event["run"]]
        left = (event["seconds"] - before) / max(1, done - first) * (total - done)
        return (
            f"iteration {done}/{total}, loss {event['train_loss']:.3f}, training error {event['train_error']:.1f} %, "
            f"test error {event['test_error']:.1f} %, {duration(left)} left"
        )


def duration(seconds):
    """Seconds as a person says them: "42 s", "3 min 10 s", "2 h 5 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class Bars:
    """One progress bar a run, with rich."""

    def __init__(self):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[error]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self.tasks = {}

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, event):
        if event["kind"] == "note":
            self.progress.console.print(event["line"], highlight=False)
            return
        name = event["run"]
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=event["iterations"], error="")
        self.progress.update(self.tasks[name], completed=event["iteration"])
        if event["kind"] == "entry":
            lost = event["train_loss"] is None
            self.progress.update(
                self.tasks[name], error="diverged" if lost else f"test error {event['test_error']:.1f} %"
            )


class AsLongAsItIsSeen:
    """A listener whose output may go away, by a closed pipe, a full disk or a lost terminal: training goes on."""

    def __init__(self, listener):
        self.listener, self.seen = listener, True

    def __enter__(self):
        self._try(self.listener.__enter__)
        return self

    def __exit__(self, *why):
        self._try(self.listener.__exit__, *why)

    def __call__(self, event):
        self._try(self.listener, event)

    def _try(self, tell, *arguments):
        try:
            if self.seen:
                tell(*arguments)
        except OSError:
            self.seen = False


def listener():
    """Bars where the output is a terminal and rich is installed; else lines."""
    chosen = Lines()
    if sys.stdout and sys.stdout.isatty():
        with suppress(ImportError):
            chosen = Bars()
    return AsLongAsItIsSeen(chosen)
