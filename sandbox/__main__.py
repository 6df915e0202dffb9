"""`python3 -m sandbox`, and the script that bin/sbx starts.  Compiled anew at each start: keep it tiny.  (front, hot)"""

import gc
import os
import sys

if __name__ == "__main__":
    gc.disable()  # a start makes no garbage worth looking for (1 ms, most of it while code is read); what lives longer has it again
    if not __package__:
        # Run by its path: our parent folder last, so that nothing in it hides a module of the standard library.
        if not sys.flags.safe_path:
            del sys.path[0]
        sys.path.append(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    try:
        from sandbox import bundle

        bundle.load(sys.argv[1] if len(sys.argv) > 1 else "")
        from sandbox.entry import main

        main()
    except KeyboardInterrupt:
        os._exit(130)
