"""One replicated counter, as a node of ours and as a node of PySyncObj: what ``bench/objects_pysyncobj.py`` starts."""
