//! This device's copy of the catalog: rows, the writers of followed documents, workers, members.
