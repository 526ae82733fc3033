"""The thin Ray shell: plain classes, made actors in one place (`factory`). No decisions here."""
