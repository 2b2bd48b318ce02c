message("skipped: there is no python3")
