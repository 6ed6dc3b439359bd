"""Texts: documents of files, and the tokens of a model's own tokenizer."""

from srinit.texts.documents import TextDocuments, TextReading, text_documents

__all__ = ["TextDocuments", "TextReading", "text_documents"]
