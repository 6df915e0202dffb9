"""Verbs about containers that live on, as tests call them.  Imported by name."""

from support import until

POLITE = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"


class Verbs:
    """`verbs("ps", "-a", code=0)`: sbx with these words, whose exit status must be `code`."""

    def __init__(self, sbx, rootfs):
        self.sbx = sbx
        self.image = f"rootfs:{rootfs}"

    def __call__(self, *words, code=0, **options):
        done = self.sbx(*words, **options)
        assert done.returncode == code, done
        return done

    def out(self, *words, **options):
        return self(*words, **options).stdout

    def live(self, *options, script=POLITE, name="c"):
        """A running container; its id."""
        id_ = self.out("run", "-d", "--name", name, *options, self.image, "sh", "-c", script).strip()
        assert len(id_) == 64
        return id_

    def column(self, field, *options):
        """One field of all containers, newest first."""
        return self.out("ps", "-a", *options, "--format", "{{." + field + "}}").split("\n")[:-1]

    def keeper(self, name):
        """The keeper's pid: the parent of its command."""
        pid = self.out("inspect", "-f", "{{.State.Pid}}", name).strip()
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return int(next(line.split()[1] for line in file if line.startswith("PPid:")))

    def until(self, name, text):
        """Until its log says so."""
        until(lambda: self.out("logs", name), lambda log: text in log)
